package raftlog

import (
	"errors"
	"testing"
)

// TestCheck is the table of logs and of the states that can go on from them.
func TestCheck(t *testing.T) {
	at := func(index uint64) []SnapshotRecord { return []SnapshotRecord{{}, {Index: index, Term: 1}} }
	for _, c := range []struct {
		name    string
		log     Recovered
		applied uint64
		want    error
	}{
		{"a young log", Recovered{First: 1, Last: 9}, 0, nil},
		{"a state within the log", Recovered{First: 1, Last: 9}, 5, nil},
		{"a state at the end of a released log", Recovered{First: 10, Last: 9, Snapshots: at(9)}, 9, nil},
		{"a state ahead of the log", Recovered{First: 1, Last: 9}, 10, ErrDamaged},
		{"a state behind the log", Recovered{First: 7, Last: 9, Snapshots: at(4)}, 5, ErrReleased},
		{"a state that was durable once, and the entries of a restored directory", Recovered{First: 1, Last: 3, Snapshots: at(3)}, 0, ErrReleased},
		{"a state at the snapshot record", Recovered{First: 1, Last: 3, Snapshots: at(3)}, 3, nil},
	} {
		if err := c.log.Check(c.applied); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestTermAt: the term of an entry is known from the runs of those on disk, and of the one before them from its snapshot record. What has no entry,
// or one that was released, has none.
func TestTermAt(t *testing.T) {
	log := Recovered{First: 5, Last: 9, Snapshots: []SnapshotRecord{{Index: 2, Term: 1}, {Index: 4, Term: 2}}, Terms: []TermRun{{First: 3, Term: 2}, {First: 8, Term: 7}}}
	for index, want := range map[uint64]uint64{1: 0, 2: 1, 3: 0, 4: 2, 5: 2, 7: 2, 8: 7, 9: 7, 10: 0} {
		if got := log.TermAt(index); got != want {
			t.Errorf("entry %d is of term %d, want %d", index, got, want)
		}
	}
}

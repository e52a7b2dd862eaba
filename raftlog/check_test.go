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

package replica

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestStartRefuses checks that a log and a store that do not fit together are not continued from.
func TestStartRefuses(t *testing.T) {
	entries := func(from, n, term uint64) (all []*raftpb.Entry) {
		for i := range n {
			all = append(all, &raftpb.Entry{Index: new(from + i), Term: new(term)})
		}
		return all
	}
	conf := &raftpb.ConfState{Voters: []uint64{1}}
	for _, c := range []struct {
		name  string
		state State
		want  string
	}{
		{"store ahead of the log", State{Entries: entries(1, 3, 1), Applied: 4}, "the store has applied entry 4, but the raft log ends at 3"},
		{"store behind the log", State{Entries: entries(6, 3, 1), Before: Position{5, 1}, Applied: 4}, "the store has applied entry 4, but the raft log begins only at 6"},
		{"committed entries lost", State{Entries: entries(1, 3, 1), HardState: &raftpb.HardState{Term: new(uint64(1)), Commit: new(uint64(4))}}, "the raft log ends at 3, but entry 4 was committed"},
		{"a gap", State{Entries: append(entries(1, 2, 1), entries(4, 1, 1)...)}, "entry 4 stands where entry 3 should"},
		{"terms fall", State{Entries: append(entries(1, 2, 2), entries(3, 1, 1)...)}, "entry 3 is of term 1, the one before it of term 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.state.ConfState = conf
			_, err := New(testConfig(1, &memLog{}, newMemMachine(1)), c.state)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestTermWithoutHardState checks that a crash that kept entries of a new term and lost the hard state behind them leaves
// a member that has not voted in that term and takes no part in older ones.
func TestTermWithoutHardState(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1, 2, 3)
	log.entries = []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(7))}}
	log.hard = &raftpb.HardState{Term: new(uint64(6)), Vote: new(uint64(3)), Commit: new(uint64(0))}
	r := openSole(t, log, m)
	if hs := r.loop.node.BasicStatus().HardState; hs.GetTerm() != 7 || hs.GetVote() != 0 {
		t.Fatalf("went on with %v", hs)
	}
}

// TestBootstrapFromLog starts a member whose configuration stands only in its log, as etcd writes a new cluster's.
func TestBootstrapFromLog(t *testing.T) {
	log, m := &memLog{}, newMemMachine()
	add := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(1))}
	data, err := proto.Marshal(add)
	if err != nil {
		t.Fatal(err)
	}
	log.entries = []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(1)), Type: raftpb.EntryConfChange.Enum(), Data: data}}
	log.hard = &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))}
	r := openSole(t, log, m)
	settle(t, r)
	if s := r.Status(); s.Role != Leader || !s.Settled {
		t.Fatalf("not leading at once: %+v", s)
	}
}

// TestOlderEntries checks that a replica started with the newest entries only knows of those on disk.
func TestOlderEntries(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	state := State{
		Before: Position{Index: 9, Term: 3}, Older: []TermRun{{From: 4, Term: 2}, {From: 8, Term: 3}}, Applied: 9,
		HardState: &raftpb.HardState{Term: new(uint64(3)), Vote: new(uint64(1)), Commit: new(uint64(9))},
		ConfState: m.conf(),
		Entries:   []*raftpb.Entry{{Index: new(uint64(10)), Term: new(uint64(3))}},
	}
	r, err := New(testConfig(1, log, m), state)
	if err != nil {
		t.Fatal(err)
	}
	w := r.loop.window
	if first, _ := w.FirstIndex(); first != 4 {
		t.Fatalf("the log begins at %d, want 4", first)
	}
	for i, want := range map[uint64]uint64{4: 2, 7: 2, 8: 3, 10: 3} {
		if term, err := w.Term(i); err != nil || term != want {
			t.Fatalf("term of %d is %d, %v; want %d", i, term, err, want)
		}
	}
	if _, err := w.Term(3); !errors.Is(err, raft.ErrCompacted) {
		t.Fatalf("term of the entry before the first, which nobody knows: %v", err)
	}
	if got, err := w.Entries(4, 11, 1<<20); len(got) != 0 || err != nil || w.ahead.wanted != (span{4, 10}) {
		t.Fatalf("%d entries, %v, wanted %v", len(got), err, w.ahead.wanted)
	}
}

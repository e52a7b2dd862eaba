package raftlog

import (
	"bytes"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// world is the naive model of a log: a list of entries and a state.
type world struct {
	base     uint64 // index before log[0]
	baseTerm uint64
	log      []item
	state    HardState
	below    uint64 // entries below it may have been released
}

type item struct {
	term uint64
	data []byte
}

func (w world) last() uint64 { return w.base + uint64(len(w.log)) }

func (w world) term(index uint64) uint64 {
	if index == w.base {
		return w.baseTerm
	}
	return w.log[index-w.base-1].term
}

func (w world) withEntry(e *raftpb.Entry) world {
	w.log = append(slices.Clone(w.log[:e.GetIndex()-w.base-1]), item{e.GetTerm(), e.GetData()})
	return w
}

// withSnapshot is what a snapshot leaves: a log that contains it stays, any other is gone.
func (w world) withSnapshot(r SnapshotRecord) world {
	if r.Index >= w.base && r.Index <= w.last() && w.term(r.Index) == r.Term {
		return w
	}
	w.base, w.baseTerm, w.log = r.Index, r.Term, nil
	return w
}

// after is the world when the saves are stored.
func (w world) after(saves []Save) world {
	stages := w.stages(saves)
	return stages[len(stages)-1]
}

// stages lists all worlds a crash during Append may leave, from nothing stored to everything stored. The saves count as
// one: a state that only stands between two of them is never stored.
func (w world) stages(saves []Save) []world {
	stages := []world{w}
	final := w.state
	for _, s := range saves {
		if s.State != (HardState{}) {
			final = s.State
		}
	}
	for _, s := range saves {
		if s.Snapshot != nil {
			w = w.withSnapshot(*s.Snapshot)
			commit := max(w.state.Commit, s.Snapshot.Index)
			w.state = final
			w.state.Commit = commit
			stages = append(stages, w)
		}
		for _, e := range s.Entries {
			w = w.withEntry(e)
			stages = append(stages, w)
		}
	}
	w.state = final
	return append(stages, w)
}

// differs says how what was recovered differs from the world; "" if it does not. The log must begin early enough that
// nothing is missing that was not released.
func (w world) differs(rec Recovered) string {
	switch {
	case rec.State != w.state:
		return fmt.Sprintf("state %+v, want %+v", rec.State, w.state)
	case rec.Last != w.last():
		return fmt.Sprintf("last entry %d, want %d", rec.Last, w.last())
	case w.last() > w.base && w.term(w.last()) > w.state.Term:
		return "a log that ends in a later term than its state must not be recovered"
	case rec.First <= w.base:
		return fmt.Sprintf("first entry %d, but the log was replaced up to %d", rec.First, w.base)
	case rec.First > max(w.base+1, w.below) && rec.First <= rec.Last:
		return fmt.Sprintf("first entry %d, only what is below %d was released", rec.First, w.below)
	case uint64(len(rec.Entries)) != rec.Last+1-rec.First:
		return fmt.Sprintf("%d entries for %d to %d", len(rec.Entries), rec.First, rec.Last)
	}
	return w.differsFrom(rec.Entries, rec.First)
}

func (w world) differsFrom(entries []*raftpb.Entry, first uint64) string {
	for i, e := range entries {
		want := w.log[first+uint64(i)-w.base-1]
		if e.GetIndex() != first+uint64(i) || e.GetTerm() != want.term || !bytes.Equal(e.GetData(), want.data) {
			return fmt.Sprintf("entry %d at term %d with %d bytes in place %d, want term %d with %d bytes",
				e.GetIndex(), e.GetTerm(), len(e.GetData()), first+uint64(i), want.term, len(want.data))
		}
	}
	return ""
}

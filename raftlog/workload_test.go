package raftlog

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
)

// This file is what the runner of crash_test.go does between two crashes: what raft would do, drawn at random.

// step does one thing.
func (r *runner) step() error {
	w := r.now()
	switch n := r.rng.IntN(100); {
	case n < 50:
		return r.append(r.entrySaves(w)...)
	case n < 60 && w.state.Term > 0:
		s := w.state
		s.Commit += r.rng.Uint64N(w.last() - s.Commit + 1)
		return r.append(Save{State: s})
	case n < 63 && w.state.Term > 0:
		return r.commits(w)
	case n < 66:
		s := HardState{w.state.Term + 1, 1 + r.rng.Uint64N(3), w.state.Commit}
		return r.append(Save{State: s})
	case n < 70:
		return r.append(r.received(w))
	case n < 80 && w.last() > w.base:
		return r.release(w)
	case n < 90:
		return r.readBack(w)
	case n < 97:
		if err := r.log.Prepare(); err != nil && !errors.Is(err, errorfs.ErrInjected) {
			return err
		}
		return r.append(r.entrySaves(r.now())...)
	default:
		return r.reopen()
	}
}

// reopen closes the log, or kills the process that has it open, and opens it again. In both cases all that was written
// must be durable afterwards: a killed process leaves it to the kernel's memory, and Open has to sync it.
func (r *runner) reopen() error {
	var err error
	if r.rng.IntN(2) == 0 {
		r.note("reopen")
		err = r.log.Close()
	} else {
		r.note("kill")
		err = r.log.closeFiles()
	}
	if err == nil {
		written := r.now()
		if err = r.openAs(written); err == nil {
			r.durable, r.unsynced = written, nil
		}
	}
	if err != nil && r.clone != nil && r.fails {
		// What matters is what check finds; give life the answers it expects of a failed log.
		r.log = &Log{cfg: r.cfg}
		return r.log.fail(err)
	}
	return err
}

func (r *runner) append(saves ...Save) error {
	r.note("append %s", describe(saves))
	r.inflight = saves
	err := r.log.Append(saves...)
	if err != nil {
		return err
	}
	before, after := r.now(), r.now().after(saves)
	r.inflight = nil
	if before.state.Term == after.state.Term && before.state.Vote == after.state.Vote && len(saves) == 1 &&
		len(saves[0].Entries) == 0 && saves[0].Snapshot == nil {
		r.unsynced = append(r.unsynced, after)
		return nil
	}
	r.durable, r.unsynced = after, nil
	return nil
}

func describe(saves []Save) string {
	s := ""
	for _, save := range saves {
		if save.Snapshot != nil {
			s += fmt.Sprintf("[snapshot %d/%d]", save.Snapshot.Index, save.Snapshot.Term)
		}
		for _, e := range save.Entries {
			s += fmt.Sprintf(" %d/%d:%d", e.GetIndex(), e.GetTerm(), len(e.GetData()))
		}
		s += fmt.Sprintf(" %v;", save.State)
	}
	return s
}

// entrySaves makes one to three saves as raft would hand them over.
func (r *runner) entrySaves(w world) []Save {
	var saves []Save
	for range 1 + r.rng.IntN(3) {
		save := r.entries(w)
		saves = append(saves, save)
		w = w.after([]Save{save})
	}
	return saves
}

func (r *runner) entries(w world) Save {
	var save Save
	state := w.state
	first := w.last() + 1
	if r.rng.IntN(5) == 0 || state.Term == 0 {
		state.Term++
		state.Vote = 0
		first = state.Commit + 1 + r.rng.Uint64N(w.last()-state.Commit+1)
	}
	for i := range uint64(1 + r.rng.IntN(4)) {
		save.Entries = append(save.Entries, normal(state.Term, first+i, r.payload()))
	}
	if r.rng.IntN(2) == 0 {
		last := first + uint64(len(save.Entries)) - 1
		state.Commit += r.rng.Uint64N(last - state.Commit + 1)
	}
	if state != w.state || r.rng.IntN(2) == 0 {
		save.State = state
	}
	return save
}

// commits moves the commit index on step by step: states that are not synced, over more than a sector.
func (r *runner) commits(w world) error {
	var save Save
	for i := range uint64(25) {
		save.Entries = append(save.Entries, normal(w.state.Term, w.last()+1+i, nil))
	}
	err := r.append(save)
	enough := w.last() + r.rng.Uint64N(26)
	for s := w.state; err == nil && r.clone == nil && s.Commit < enough; {
		s.Commit++
		err = r.append(Save{State: s})
	}
	return err
}

// payload has sizes around sectors and blocks, and often content that looks like sectors never written.
func (r *runner) payload() []byte {
	sizes := []int{0, 1, 20, 400, 512, 1100, 3000, 5000}
	b := make([]byte, r.rng.IntN(sizes[r.rng.IntN(len(sizes))]+1))
	switch r.rng.IntN(4) {
	case 0: // zero
	case 1: // zero but for a byte
		if len(b) > 0 {
			b[r.rng.IntN(len(b))] = 1
		}
	default:
		for i := range b {
			b[i] = byte(r.rng.Uint32())
		}
	}
	return b
}

// received is a snapshot from the leader: ahead of the log, or in place of its uncommitted end.
func (r *runner) received(w world) Save {
	rec := SnapshotRecord{Index: w.state.Commit + 1 + r.rng.Uint64N(w.last()-w.state.Commit+4), ConfState: &raftpb.ConfState{Voters: []uint64{1}}}
	state := HardState{w.state.Term + 1, 0, rec.Index}
	rec.Term = state.Term
	if rec.Index <= w.last() && r.rng.IntN(2) == 0 {
		rec.Term = w.term(rec.Index) // the log contains it
	}
	save := Save{Snapshot: &rec, State: state}
	if n := uint64(r.rng.IntN(3)); rec.Term == state.Term {
		for i := range n {
			save.Entries = append(save.Entries, normal(state.Term, rec.Index+1+i, r.payload()))
		}
		save.State.Commit += n
	}
	return save
}

func (r *runner) release(w world) error {
	// What is applied is committed, but the log may not have heard of it.
	index := w.base + 1 + r.rng.Uint64N(w.last()-w.base)
	rec := SnapshotRecord{Index: index, Term: w.term(index), ConfState: &raftpb.ConfState{Voters: []uint64{1}}}
	below := index + 1 - r.rng.Uint64N(min(index, 5))
	r.note("release below %d, snapshot record %d/%d", below, rec.Index, rec.Term)
	if first := r.log.Stats().First; index+1 < first { // what was released before, or replaced, has overtaken it
		removed, err := r.log.Release(rec, below)
		if err == nil && removed > 0 {
			err = fmt.Errorf("%d segments removed although the log begins with entry %d", removed, first)
		}
		return err
	}
	state := w.state
	state.Commit = max(state.Commit, index)
	r.inflight = []Save{{State: state}}
	// From the moment the record is durable segments may go.
	r.durable.below = max(r.durable.below, below)
	for i := range r.unsynced {
		r.unsynced[i].below = r.durable.below
	}
	_, err := r.log.Release(rec, below)
	if err == nil {
		r.durable, r.unsynced, r.inflight = r.now().after(r.inflight), nil, nil
	}
	return err
}

func (r *runner) readBack(w world) error {
	first, last := r.log.Stats().First, r.log.Stats().Last
	if last != w.last() || first <= w.base {
		return fmt.Errorf("log says entries %d to %d, model says %d to %d", first, last, w.base+1, w.last())
	}
	if first > last {
		return nil
	}
	lo := first + r.rng.Uint64N(last-first+1)
	hi := lo + r.rng.Uint64N(last-lo+3)
	room := r.rng.Uint64N(20000)
	got, err := r.log.Entries(lo, hi, room)
	if err != nil {
		return fmt.Errorf("entries %d to %d: %w", lo, hi, err)
	}
	if hi > lo && len(got) == 0 || uint64(len(got)) > hi-lo {
		return fmt.Errorf("entries %d to %d: %d of them", lo, hi, len(got))
	}
	if diff := w.differsFrom(got, lo); diff != "" {
		return fmt.Errorf("entries %d to %d: %s", lo, hi, diff)
	}
	return nil
}

package raftlog

import (
	"fmt"

	"holdfast/util/durable"
)

// Release gives the space of old segments back: those that hold nothing from below on. First it makes durable what a
// reader needs to open what is left: rec, whose index must be at least below-1, and a commit index that reaches it. What
// rec stands for has been applied, so the commit index is raised to it if the log had not heard of that yet. A record
// that is there already is not written again.
//
// It returns how many segments were removed. The one that holds the entry below stays, as do all behind it.
//
// A received snapshot may have put the beginning of the log behind rec meanwhile: then there is nothing to do.
//
// Appends wait while the record is written, not while files are removed.
func (l *Log) Release(rec SnapshotRecord, below uint64) (removed int, err error) {
	if below > rec.Index+1 {
		panic(fmt.Sprintf("raftlog: release below %d with a snapshot record at %d", below, rec.Index))
	}
	l.releasing.Lock()
	defer l.releasing.Unlock()
	if overtaken, err := l.makeReleasable(rec); overtaken || err != nil {
		return 0, err
	}
	for _, seg := range l.releasable(min(below, rec.Index)) {
		if err := l.remove(seg); err != nil {
			return removed, err
		}
		removed++
	}
	l.forget()
	failpointRaftAfterWALRelease()
	return removed, nil
}

// makeReleasable has rec recorded, unless the log begins behind it.
func (l *Log) makeReleasable(rec SnapshotRecord) (overtaken bool, err error) {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.failed(); err != nil {
		return false, err
	}
	if rec.Index < l.hist.base.Index {
		return true, nil
	}
	if err := l.record(rec); err != nil {
		return false, l.fail(fmt.Errorf("release raft log %s: %w", l.cfg.Dir, err))
	}
	return false, nil
}

// record makes rec and a state that reaches it durable.
func (l *Log) record(rec SnapshotRecord) error {
	if t := l.hist.term(rec.Index); rec.Index > l.hist.last || t != 0 && t != rec.Term {
		panic(fmt.Sprintf("raftlog: release with snapshot record %d of term %d, the log has term %d there and ends with %d",
			rec.Index, rec.Term, t, l.hist.last))
	}
	save := Save{State: l.hist.state}
	save.State.Commit = max(save.State.Commit, rec.Index)
	if !l.hist.recorded(rec) {
		save.Snapshot = &rec
	}
	if err := l.store([]Save{save}); err != nil {
		return err
	}
	if l.dirty {
		return l.sync()
	}
	return nil
}

// releasable lists the segments before the last one that begins at or below index, which is where etcd's reader starts
// when it is given a snapshot at index.
func (l *Log) releasable(index uint64) []segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.segs) - 1; i > 0; i-- {
		if l.segs[i].index <= index {
			return append([]segment(nil), l.segs[:i]...)
		}
	}
	return nil
}

// remove forgets the oldest segment, then deletes it. Each deletion is durable before the next begins, so that a crash
// leaves no hole between segments.
func (l *Log) remove(seg segment) error {
	l.mu.Lock()
	l.segs = l.segs[1:]
	l.index.dropSegmentsBefore(seg.seq + 1)
	l.mu.Unlock()
	if err := l.cfg.FS.Remove(l.cfg.path(seg.String())); err != nil {
		return l.fail(fmt.Errorf("remove raft log segment %s: %w", seg, err))
	}
	if err := durable.Names(l.cfg.FS, l.cfg.Dir); err != nil {
		return l.fail(err)
	}
	l.cfg.Log.Info("released a raft log segment", "segment", l.cfg.path(seg.String()))
	return nil
}

// forget drops from memory what concerns removed segments only.
func (l *Log) forget() {
	l.write.Lock()
	defer l.write.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if first, ok := l.index.first(); ok {
		l.hist.forgetBefore(first)
	}
}

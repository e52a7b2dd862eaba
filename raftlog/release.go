package raftlog

import "fmt"

// Release gives the space of old segments back: those that hold nothing from below on. First it makes durable what a
// reader needs to open what is left: rec, whose index must be at least below-1, and a state whose commit index reaches it
// (state may be zero when the log has one already). A record that is there already is not written again.
//
// It returns how many segments were removed. The one that holds the entry below stays, as do all behind it.
func (l *Log) Release(rec SnapshotRecord, state HardState, below uint64) (removed int, err error) {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.failed(); err != nil {
		return 0, err
	}
	if below > rec.Index+1 {
		panic(fmt.Sprintf("raftlog: release below %d with a snapshot record at %d", below, rec.Index))
	}
	if err := l.record(rec, state); err != nil {
		return 0, l.fail(fmt.Errorf("release raft log %s: %w", l.cfg.Dir, err))
	}
	for _, seg := range l.releasable(min(below, rec.Index)) {
		if err := l.remove(seg); err != nil {
			return removed, err
		}
		removed++
	}
	l.mu.Lock()
	if first, ok := l.index.first(); ok {
		l.hist.forgetBefore(first)
	}
	l.mu.Unlock()
	failpointRaftAfterWALRelease()
	return removed, nil
}

// record makes rec and state durable.
func (l *Log) record(rec SnapshotRecord, state HardState) error {
	save := Save{Snapshot: &rec, State: state}
	for _, r := range l.hist.snaps {
		if r.Index == rec.Index && r.Term == rec.Term && rec.Index <= l.hist.state.Commit {
			save.Snapshot = nil
		}
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
	if err := syncDir(l.cfg.FS, l.cfg.Dir); err != nil {
		return l.fail(err)
	}
	l.cfg.Log.Info("released a raft log segment", "segment", l.cfg.path(seg.String()))
	return nil
}

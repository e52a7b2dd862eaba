package raftlog

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// A Save is what raft wants stored in one step.
type Save struct {
	Snapshot *SnapshotRecord // comes first; what it stands for is committed, so the commit index is raised to it
	Entries  []*raftpb.Entry // contiguous; may begin at or below the last index and then replace what is there
	State    HardState       // zero: unchanged
	Sync     bool            // durable, with all before it, even if it only moves the commit index, or nothing
}

// Append stores the saves in order, as one write and at most one sync, and returns when they are durable. Saves that only
// move the commit index are written but not synced, unless one of them asks for it: raft can do without them. The saves of one call count as one:
// only the last state among them is stored. A commit index below the one stored is ignored.
//
// After an error nothing is known about what the disk holds; the log answers every later call with it. A save that
// contradicts the log (a gap, a term going back) is the caller's bug and panics before anything is written.
func (l *Log) Append(saves ...Save) error {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.failed(); err != nil {
		return err
	}
	failpointRaftBeforeSave()
	for len(saves) > 0 {
		n := together(saves)
		if err := l.store(saves[:n]); err != nil {
			return l.fail(fmt.Errorf("append to raft log %s: %w", l.cfg.Dir, err))
		}
		saves = saves[n:]
	}
	failpointRaftAfterSave()
	return nil
}

// together returns how many saves can be one batch: a snapshot record only ever begins one. The reader relies on that
// (judgeTail).
func together(saves []Save) int {
	for i := 1; i < len(saves); i++ {
		if saves[i].Snapshot != nil {
			return i
		}
	}
	return len(saves)
}

// store writes one batch and syncs it if raft needs that, in a new segment if the present one is full.
func (l *Log) store(saves []Save) error {
	snap := saves[0].Snapshot != nil
	if snap {
		failpointRaftBeforeSaveSnap()
	}
	b := &l.batch
	b.start(l.off, l.crc, &l.hist)
	sync := b.mustSync(saves)
	cut := l.full()
	if cut {
		b.off = 0
		b.header(l.meta)
	}
	if err := b.addSaves(saves); err != nil {
		return err
	}
	if !b.any {
		if sync && l.dirty {
			return l.sync()
		}
		return nil
	}
	seg := l.seg
	var err error
	if cut {
		seg = segment{seq: l.seg.seq + 1, index: l.hist.last + 1}
		err = l.writeCut(b, seg)
	} else {
		err = l.writeTail(b, sync)
	}
	if err != nil {
		return err
	}
	l.commit(b, seg)
	if snap {
		failpointRaftAfterSaveSnap()
	}
	return nil
}

// full reports whether the next batch begins a new segment, and has its file ready then. If the disk has no room for a
// whole segment the old one goes on growing: a batch needs far less.
func (l *Log) full() bool {
	if l.off < l.cutAt {
		return false
	}
	if err := l.makeSpare(); err != nil {
		l.cutAt = l.off + cutRetryBytes
		l.cfg.Log.Warn("no room for the next raft log segment, going on in the old one", "dir", l.cfg.Dir, "error", err)
		return false
	}
	return true
}

// cutRetryBytes is how much is written to a full segment before a new one is tried again: rarely enough that neither the
// attempts nor the warnings are felt.
const cutRetryBytes = 1 << 20

func (l *Log) writeTail(b *batch, sync bool) error {
	if err := l.writeAt(l.tail.WriteAt, b); err != nil {
		return err
	}
	l.dirty = true
	if !sync {
		return nil
	}
	return l.sync()
}

// writeCut puts the batch into a new segment. Before it has its name nobody can see it, so header and batch share a sync.
// What is unsynced in the old segment has to be durable first: the new one goes on from its checksum.
func (l *Log) writeCut(b *batch, seg segment) error {
	if l.dirty {
		if err := l.sync(); err != nil {
			return err
		}
	}
	if err := l.writeAt(l.spare.WriteAt, b); err != nil {
		return err
	}
	if err := l.syncWith(l.spare.SyncData); err != nil {
		return err
	}
	if err := l.promoteSpare(seg); err != nil {
		return err
	}
	l.cfg.Log.Info("created a new raft log segment", "segment", l.cfg.path(seg.String()))
	return nil
}

func (l *Log) writeAt(write func([]byte, int64) (int, error), b *batch) error {
	begin := l.now()
	n, err := write(b.buf, b.off)
	if err == nil && n != len(b.buf) {
		err = fmt.Errorf("%d of %d bytes written", n, len(b.buf))
	}
	if err != nil {
		return fmt.Errorf("write %d bytes at offset %d: %w", len(b.buf), b.off, err)
	}
	if l.cfg.Observer != nil {
		l.cfg.Observer.Wrote(n, l.since(begin))
	}
	return nil
}

func (l *Log) sync() error { return l.syncWith(l.tail.SyncData) }

func (l *Log) syncWith(sync func() error) error {
	l.dirty = false
	if l.cfg.UnsafeNoSync {
		return nil
	}
	failpointWALBeforeSync()
	begin := l.now()
	if err := sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	took := l.since(begin)
	failpointWALAfterSync()
	l.mu.Lock()
	l.stats.Syncs++
	l.mu.Unlock()
	if took > slowSync {
		l.cfg.Log.Warn("slow fdatasync", "took", took, "expected-duration", slowSync)
	}
	if l.cfg.Observer != nil {
		l.cfg.Observer.Synced(took)
	}
	return nil
}

func (l *Log) now() time.Time {
	if l.cfg.Now == nil {
		return time.Time{}
	}
	return l.cfg.Now()
}

func (l *Log) since(begin time.Time) time.Duration {
	if l.cfg.Now == nil {
		return 0
	}
	return l.cfg.Now().Sub(begin)
}

// commit makes a batch that the disk has part of the log that readers see.
func (l *Log) commit(b *batch, seg segment) {
	l.seg, l.off, l.crc = seg, b.off+int64(len(b.buf)), b.crc

	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.segs); n == 0 || l.segs[n-1] != seg {
		l.segs = append(l.segs, seg)
		l.stats.Cuts++
	}
	for _, p := range b.places {
		if p.reset {
			l.index.reset()
		}
		if p.entry != 0 {
			l.index.put(p.entry, seg, p.off, p.crc)
			l.stats.Entries++
		}
	}
	l.hist, b.hist = b.hist, l.hist
	l.stats.TailBytes = l.off
	l.stats.Writes++
	l.stats.Bytes += uint64(len(b.buf))
	b.trim()
}

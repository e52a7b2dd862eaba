package raftlog

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"holdfast/util/durable"
)

// Recovered is what a log held when it was opened.
type Recovered struct {
	Metadata  Metadata
	State     HardState
	Snapshots []SnapshotRecord // those at or below the commit index, oldest first
	First     uint64           // lowest entry on disk; Last+1 when there is none
	Last      uint64           // index of the last entry, or of the snapshot the log begins after
	Terms     []TermRun        // of the entries First to Last
	// Entries are those above After, up to Last. What lies below can be had from Log.Entries.
	Entries []*raftpb.Entry
	After   uint64
	// TornBytes were cut from the end: a write that was under way in a crash and never acknowledged.
	TornBytes int64
}

// Check reports whether a state machine that has applied the entries up to applied can go on from this log.
func (r Recovered) Check(applied uint64) error {
	if r.Last < applied {
		return fmt.Errorf("%w: it ends with entry %d, but entry %d has been applied: acknowledged entries are missing; %s",
			ErrDamaged, r.Last, applied, remedyRejoin)
	}
	if r.Last > applied && r.First > applied+1 {
		return fmt.Errorf("%w: it begins with entry %d, but only %d entries have been applied: restore the state that belongs to the log, or %s",
			ErrReleased, r.First, applied, remedyRejoin)
	}
	// A snapshot record is written when the state that it names is durable. Less is a state that has lost something, and the entries
	// that are still there need not be what it was made of: those of a restored directory only found its cluster.
	if n := len(r.Snapshots); n > 0 && r.Snapshots[n-1].Index > applied {
		return fmt.Errorf("%w: it says that the state after entry %d was durable, but only %d entries have been applied: restore the state that belongs to the log, or %s",
			ErrReleased, r.Snapshots[n-1].Index, applied, remedyRejoin)
	}
	return nil
}

// TermAt is the term of the entry at index, which the log holds or begins after; 0 is none.
func (r Recovered) TermAt(index uint64) uint64 {
	var term uint64
	for _, snap := range r.Snapshots {
		if snap.Index == index {
			term = snap.Term
		}
	}
	for _, run := range r.Terms {
		if run.First <= index && index <= r.Last && index >= r.First {
			term = run.Term
		}
	}
	return term
}

// Open opens the log in cfg.Dir for appending and returns the entries above the newest valid snapshot record.
func Open(cfg Config) (*Log, Recovered, error) { return open(cfg, nil) }

// OpenAfter is Open for a state machine that knows what it has applied: it returns the entries above that index. The
// caller finishes what a crash interrupted (a snapshot record may be ahead of what is applied) and then asks Check.
func OpenAfter(cfg Config, applied uint64) (*Log, Recovered, error) { return open(cfg, &applied) }

// ReadAfter is OpenAfter for who only looks: it changes nothing in dir, not even a torn tail. The log must not be in use.
func ReadAfter(fsys vfs.FS, dir string, applied uint64) (Recovered, error) {
	_, rec, err := recoverLog(fsys, dir, &applied, func() visitor { return func(seen) error { return nil } })
	if err != nil {
		return Recovered{}, fmt.Errorf("read raft log: %w", err)
	}
	return rec, nil
}

func open(cfg Config, applied *uint64) (*Log, Recovered, error) {
	if err := cfg.fill(); err != nil {
		return nil, Recovered{}, err
	}
	l := &Log{cfg: cfg}
	s, rec, err := recoverLog(cfg.FS, cfg.Dir, applied, func() visitor {
		l.index = index{}
		return func(r seen) error {
			if r.reset {
				l.index.reset()
			}
			if r.frame.typ == TypeEntry {
				l.index.put(r.entry.index, r.pos.seg, r.pos.off, r.pos.crc)
			}
			return nil
		}
	})
	if err != nil {
		return nil, Recovered{}, fmt.Errorf("open raft log: %w", err)
	}
	l.meta, l.hist, l.segs, l.crc, l.off = s.meta, s.hist, s.segs, s.crc, s.end
	l.seg, l.cutAt = s.segs[len(s.segs)-1], cfg.SegmentBytes
	l.stats.TailBytes = l.off
	if err := l.openTail(s); err != nil {
		return nil, Recovered{}, errors.Join(fmt.Errorf("open raft log %s: %w", cfg.Dir, err), l.closeFiles())
	}
	return l, rec, nil
}

// recoverLog reads the log in dir and keeps what Open returns. begin is called before each pass over it, as for scanLog, and gives
// who else looks at the records.
func recoverLog(fsys vfs.FS, dir string, applied *uint64, begin func() visitor) (*scan, Recovered, error) {
	var keep keeper
	s, err := scanLog(fsys, dir, func() visitor {
		also := begin()
		keep = keeper{applied: applied}
		return func(r seen) error {
			if err := also(r); err != nil {
				return err
			}
			return keep.record(r)
		}
	})
	if err != nil {
		return nil, Recovered{}, err
	}
	sum, err := s.summary()
	if err != nil {
		return nil, Recovered{}, err
	}
	return s, Recovered{
		Metadata: sum.Metadata, State: sum.State, Snapshots: sum.Snapshots,
		First: sum.First, Last: sum.Last, Terms: append([]TermRun(nil), sum.Terms...),
		Entries: keep.entries, After: keep.after(), TornBytes: sum.TornBytes,
	}, nil
}

// openTail makes the last segment ready for appending: zero behind the records, of full size, and durable. The last is
// needed even after a clean stop of the process alone: what was read may still be in the kernel's memory only, and
// raft is about to act on it.
func (l *Log) openTail(s *scan) (err error) {
	for _, name := range []string{spareName, spareNameEtcd} {
		if err := l.cfg.FS.Remove(l.cfg.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	path := l.cfg.path(l.seg.String())
	if s.dirt > 0 {
		if err := l.keepBroken(path, s); err != nil {
			return err
		}
	}
	if l.tail, err = l.cfg.FS.OpenReadWrite(path, writeCategory); err != nil {
		return err
	}
	if err := zero(l.tail, s.end, s.dirt); err != nil {
		return fmt.Errorf("zero the torn tail of %s: %w", path, err)
	}
	if err := extend(l.tail, s.size, l.cfg.SegmentBytes); err != nil {
		// It grows as it is written then. A full disk must not keep a member from starting and being compacted.
		l.cfg.Log.Warn("could not allocate the last raft log segment in full", "segment", path, "error", err)
	}
	if err := l.tail.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return durable.Names(l.cfg.FS, l.cfg.Dir)
}

// keepBroken copies the last segment before its tail is cut, for whoever wants to look into it.
func (l *Log) keepBroken(path string, s *scan) error {
	broken := path + ".broken"
	if err := vfs.Copy(l.cfg.FS, path, broken); err != nil {
		return fmt.Errorf("copy %s before its torn tail is cut: %w", path, err)
	}
	l.cfg.Log.Warn("cut the torn tail of the raft log, left by a crash during a write that was never acknowledged",
		"segment", path, "offset", s.end, "bytes", s.dirt, "last-index", s.hist.last, "copy", broken)
	return durable.Names(l.cfg.FS, l.cfg.Dir)
}

func zero(f vfs.File, off, n int64) error {
	buf := make([]byte, min(n, scanWindowBytes))
	for n > 0 {
		part := buf[:min(n, int64(len(buf)))]
		if _, err := f.WriteAt(part, off); err != nil {
			return err
		}
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return nil
}

// keeper collects the entries that Open returns.
type keeper struct {
	applied *uint64 // nil: above the newest valid snapshot record
	newest  uint64  // index of the newest valid one
	entries []*raftpb.Entry
}

func (k *keeper) record(r seen) error {
	if r.reset {
		k.entries = nil
	}
	switch r.frame.typ {
	case TypeEntry:
		return k.entry(r)
	case TypeState, TypeSnapshot:
		k.raise(r.hist)
	}
	return nil
}

func (k *keeper) entry(r seen) error {
	if n := len(k.entries); n > 0 {
		first := k.entries[0].GetIndex()
		k.entries = k.entries[:r.entry.index-min(first, r.entry.index)]
	}
	if r.entry.index <= k.after() {
		return nil
	}
	m, err := message(r.frame.data)
	if err != nil {
		return fmt.Errorf("decode entry %d: %w", r.entry.index, err)
	}
	k.entries = append(k.entries, m)
	return nil
}

// raise moves the newest valid snapshot record up and lets go of entries it makes needless.
func (k *keeper) raise(h *history) {
	for _, r := range h.snaps {
		if r.Index <= h.state.Commit {
			k.newest = max(k.newest, r.Index)
		}
	}
	if k.applied != nil || len(k.entries) == 0 {
		return
	}
	first := k.entries[0].GetIndex()
	if done := k.newest - min(first-1, k.newest); done > 0 {
		k.entries = append([]*raftpb.Entry(nil), k.entries[min(done, uint64(len(k.entries))):]...)
	}
}

// after returns the index above which entries are kept.
func (k *keeper) after() uint64 {
	if k.applied != nil {
		return *k.applied
	}
	return k.newest
}

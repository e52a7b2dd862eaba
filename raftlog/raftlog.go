package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/util/durable"
)

// SegmentBytesDefault is etcd's segment size: large enough that cutting is rare, small enough that space comes back soon.
const SegmentBytesDefault = 64_000_000

// Config says where a log lives and how it behaves.
type Config struct {
	FS  vfs.FS // required
	Dir string // directory of the segments; Create makes it (0700) but not its parents' durability
	Log *slog.Logger

	SegmentBytes int64 // a segment that has reached this size is followed by a new one; 0: SegmentBytesDefault
	// UnsafeNoSync leaves out every sync after Create. A crash of the machine then loses and mixes up acknowledged
	// records, and the log may refuse to open.
	UnsafeNoSync bool

	Observer Observer         // may be nil
	Now      func() time.Time // clock for Observer and the warning about slow syncs; nil: no durations
}

// An Observer is told what the disk did. It is called by the appending goroutine and must not block.
type Observer interface {
	Wrote(bytes int, took time.Duration)
	Synced(took time.Duration)
}

// slowSync is how long a sync may take before it is logged; etcd's number.
const slowSync = time.Second

// A Log is an open raft log.
type Log struct {
	cfg  Config
	meta []byte

	releasing sync.Mutex // one Release at a time; taken before write

	write sync.Mutex // held by whoever writes records, during its I/O; guards the fields down to batch
	tail  vfs.File   // last segment, opened for writing
	seg   segment    // its name
	off   int64      // end of its records
	crc   uint32     // rolling sum at off
	dirty bool       // something was written that is not synced
	spare vfs.File   // the next segment, under spareName; nil: not made yet
	cutAt int64      // the tail is full when off has reached it
	batch batch      // reused

	failure atomic.Pointer[error] // what made the log fail; nil while it works

	mu    sync.Mutex // guards the fields below; released before I/O
	hist  history    // changed only with write held too, which is enough to read it
	index index
	segs  []segment
	stats Stats
}

// Stats counts since the log was opened; the state fields are as of now.
type Stats struct {
	Segments    int
	First, Last uint64 // entries kept; First is Last+1 when there are none
	TailBytes   int64  // end of the records in the last segment

	Writes  uint64 // batches
	Bytes   uint64 // in them
	Entries uint64 // in them
	Syncs   uint64 // of appended data
	Cuts    uint64 // segments begun
}

func (cfg *Config) fill() error {
	if cfg.FS == nil || cfg.Dir == "" || cfg.Log == nil {
		return errors.New("raftlog: Config needs FS, Dir and Log")
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = SegmentBytesDefault
	}
	return nil
}

func (cfg *Config) path(name string) string { return cfg.FS.PathJoin(cfg.Dir, name) }

// Create makes a new log. It exists from the moment its first segment has its name, so a crash leaves either nothing that
// Exists would see or a whole log: what it begins with, if anything, is in it from the start. Only the log's own directory and
// its entry in the parent are made durable.
func Create(cfg Config, meta Metadata, first ...Save) (*Log, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if found, err := Exists(cfg.FS, cfg.Dir); err != nil {
		return nil, err
	} else if found {
		return nil, fmt.Errorf("%s: %w", cfg.Dir, ErrExists)
	}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create raft log directory: %w", err)
	}
	if err := durable.Names(cfg.FS, cfg.FS.PathDir(cfg.Dir)); err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, meta: meta.encode()}
	if err := l.writeFirst(first); err != nil {
		return nil, errors.Join(fmt.Errorf("create raft log: %w", err), l.closeFiles())
	}
	cfg.Log.Info("created a raft log", "dir", cfg.Dir)
	return l, nil
}

// writeFirst writes the segment every log begins with: header, the snapshot record at index 0, and the first saves.
func (l *Log) writeFirst(first []Save) error {
	origin := SnapshotRecord{}
	data, err := origin.encode()
	if err != nil {
		return err
	}
	b := &l.batch
	b.start(0, 0, &l.hist)
	b.header(l.meta)
	b.add(TypeSnapshot, data, nil)
	b.checked(b.hist.snapshot(origin))
	if len(first) > 0 {
		if err := b.addSaves(first); err != nil {
			return err
		}
	}
	if err := l.makeSpare(); err != nil {
		return err
	}
	if _, err := l.spare.WriteAt(b.buf, 0); err != nil {
		return fmt.Errorf("write first segment: %w", err)
	}
	if err := l.spare.Sync(); err != nil {
		return fmt.Errorf("sync first segment: %w", err)
	}
	if err := l.promoteSpare(segment{}); err != nil {
		return err
	}
	l.commit(b, segment{})
	return nil
}

// makeSpare makes the next segment's file.
func (l *Log) makeSpare() (err error) {
	if l.spare == nil {
		l.spare, err = createFile(l.cfg.FS, l.cfg.path(spareName), l.cfg.SegmentBytes)
	}
	return err
}

// promoteSpare gives the spare file, whose content is durable, its name; from then on it is the tail.
func (l *Log) promoteSpare(seg segment) error {
	failpointWALBeforeRename()
	if err := l.cfg.FS.Rename(l.cfg.path(spareName), l.cfg.path(seg.String())); err != nil {
		return fmt.Errorf("name segment %s: %w", seg, err)
	}
	failpointWALAfterRename()
	if err := durable.Names(l.cfg.FS, l.cfg.Dir); err != nil {
		return err
	}
	old := l.tail
	l.tail, l.spare = l.spare, nil
	l.off, l.cutAt = 0, l.cfg.SegmentBytes
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("close segment before %s: %w", seg, err)
	}
	return nil
}

// Prepare makes the next segment's file once the current one is half full, so that the Append that needs it does not have
// to. It is for the moment after the answers of an Append are out; most calls do nothing. A failure (a full disk) is not
// fatal: the current segment can still be filled.
func (l *Log) Prepare() error {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.failed(); err != nil {
		return err
	}
	if l.off < l.cfg.SegmentBytes/2 {
		return nil
	}
	if err := l.makeSpare(); err != nil {
		return fmt.Errorf("prepare next segment of raft log: %w", err)
	}
	return nil
}

// failed returns what every call answers after a failure.
func (l *Log) failed() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail makes err, and all that follows, fatal. A failed sync in particular is never tried again: the kernel may have
// dropped the pages it could not write and call the second attempt a success.
func (l *Log) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	l.failure.CompareAndSwap(nil, &err)
	return l.failed()
}

// Stats returns counts and the present extent of the log.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Segments = len(l.segs)
	s.Last = l.hist.last
	s.First = s.Last + 1
	if first, ok := l.index.first(); ok {
		s.First = first
	}
	return s
}

var errClosed = errors.New("raft log is closed")

// Close makes everything written durable and closes the files. A log that failed is closed without another try.
func (l *Log) Close() error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.failure.Load() != nil {
		return l.closeFiles()
	}
	var err error
	if l.dirty && !l.cfg.UnsafeNoSync {
		if err = l.tail.SyncData(); err != nil {
			err = fmt.Errorf("sync raft log at close: %w", err)
		}
	}
	if l.spare != nil {
		err = errors.Join(err, l.cfg.FS.Remove(l.cfg.path(spareName)))
	}
	closed := errClosed
	l.failure.Store(&closed)
	return errors.Join(err, l.closeFiles())
}

// closeFiles may be called more than once.
func (l *Log) closeFiles() error {
	var err error
	for _, f := range []vfs.File{l.tail, l.spare} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	l.tail, l.spare = nil, nil
	return err
}

package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
)

// A failed sync is never tried again: the log answers everything with the first error, and does not touch the disk.
func TestFailedSyncIsFatal(t *testing.T) {
	var broken, touched bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken && op.Kind != errorfs.OpFileClose {
			touched = true
		}
		if op.Kind == errorfs.OpFileSyncData {
			broken = true
			return errorfs.ErrInjected
		}
		return nil
	})
	l, err := Create(Config{FS: errorfs.Wrap(vfs.NewMem(), inject), Dir: "wal", Log: quiet(), SegmentBytes: 1 << 20}, Metadata{})
	must(err)
	save := Save{Entries: []*raftpb.Entry{normal(1, 1, nil)}, State: HardState{1, 0, 0}}
	first := l.Append(save)
	if !errors.Is(first, ErrFailed) || !errors.Is(first, errorfs.ErrInjected) {
		t.Fatalf("append: %v", first)
	}
	touched = false
	_, entriesErr := l.Entries(1, 2, 100)
	_, releaseErr := l.Release(SnapshotRecord{}, 0)
	for i, err := range []error{l.Append(save), l.Append(Save{}), l.Prepare(), entriesErr, releaseErr} {
		if err != first {
			t.Errorf("call %d: %v, want the first error", i, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if touched {
		t.Error("the disk was used after it failed")
	}
}

// A disk without room for a whole segment does not stop the log: the old segment grows until there is room again.
func TestNoRoomForSegment(t *testing.T) {
	full := false
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full && op.Kind == errorfs.OpFileWriteAt && op.Offset == 4095 { // the last byte of a new segment
			return syscall.ENOSPC
		}
		return nil
	})
	fsys := errorfs.Wrap(vfs.NewMem(), inject)
	l, err := Create(Config{FS: fsys, Dir: "wal", Log: quiet(), SegmentBytes: 4096}, Metadata{})
	must(err)
	full = true
	for i := uint64(1); i <= 300; i++ {
		if i == 200 {
			full = false
		}
		must(l.Append(Save{Entries: []*raftpb.Entry{normal(1, i, make([]byte, 10000))}, State: HardState{1, 0, 0}}))
		if err := l.Prepare(); full && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("prepare: %v", err)
		}
	}
	if n := l.Stats().Segments; n < 2 || n > 102 {
		t.Errorf("%d segments", n)
	}
	must(l.Close())
	if sum := must1(Verify(fsys, "wal")); sum.Last != 300 {
		t.Errorf("last entry %d", sum.Last)
	}
}

// stopwatch is a clock that moves a second at each look, and an observer of what that makes of the durations.
type stopwatch struct {
	now           time.Time
	writes, syncs []time.Duration
	bytes         int
}

func (s *stopwatch) Now() time.Time {
	s.now = s.now.Add(2 * time.Second)
	return s.now
}
func (s *stopwatch) Wrote(bytes int, took time.Duration) {
	s.bytes += bytes
	s.writes = append(s.writes, took)
}
func (s *stopwatch) Synced(took time.Duration) { s.syncs = append(s.syncs, took) }

func TestObserver(t *testing.T) {
	var out bytes.Buffer
	var watch stopwatch
	cfg := Config{FS: vfs.NewMem(), Dir: "wal", Log: slog.New(slog.NewTextHandler(&out, nil)), Observer: &watch, Now: watch.Now, SegmentBytes: 1 << 20}
	l, err := Create(cfg, Metadata{})
	must(err)
	must(l.Append(Save{Entries: []*raftpb.Entry{normal(1, 1, nil)}, State: HardState{1, 0, 0}}))
	must(l.Append(Save{State: HardState{1, 0, 1}}))
	must(l.Close())
	if fmt.Sprint(watch.writes, watch.syncs) != "[2s 2s] [2s]" || watch.bytes != 72 {
		t.Errorf("writes %v, syncs %v, %d bytes", watch.writes, watch.syncs, watch.bytes)
	}
	if !strings.Contains(out.String(), `msg="slow fdatasync" took=2s`) {
		t.Errorf("no warning about the slow sync:\n%s", &out)
	}
}

// Entries reads what was appended while more is appended, cut and released. Run with -race.
func TestEntriesBesideAppend(t *testing.T) {
	l, err := Create(Config{FS: vfs.NewMem(), Dir: "wal", Log: quiet(), SegmentBytes: 16 << 10}, Metadata{})
	must(err)
	const last = 2000
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint64(1); i <= last; i++ {
			must(l.Append(Save{Entries: []*raftpb.Entry{normal(1, i, bytes.Repeat([]byte{byte(i)}, 100))}, State: HardState{1, 0, i - 1}}))
			must(l.Prepare())
		}
	})
	wg.Go(func() {
		for done := uint64(0); done < last-500; {
			if at := l.Stats().Last; at > done+500 {
				must1(l.Release(SnapshotRecord{Index: at - 100, Term: 1, ConfState: &raftpb.ConfState{}}, at-200))
				done = at
			}
			runtime.Gosched()
		}
	})
	for next := uint64(1); next < last; {
		entries, err := l.Entries(next, next+50, 1<<20)
		if errors.Is(err, ErrReleased) {
			next = l.Stats().First
			continue
		}
		must(err)
		for i, e := range entries {
			if e.GetIndex() != next+uint64(i) || len(e.Data) != 100 || e.Data[0] != byte(e.GetIndex()) {
				t.Fatalf("entry %v in place %d", e, next+uint64(i))
			}
		}
		next += uint64(len(entries))
	}
	wg.Wait()
	must(l.Close())
}

// On a real disk: the directory and the files are for their owner only, a segment has its full size from the start, and a
// segment that etcd's repair has cut short grows back.
func TestRealDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "member", "wal")
	cfg := Config{FS: vfs.Default, Dir: dir, Log: quiet(), SegmentBytes: 1 << 20}
	l, err := Create(cfg, Metadata{1, 2})
	must(err)
	must(l.Append(Save{Entries: []*raftpb.Entry{normal(1, 1, []byte("a"))}, State: HardState{1, 0, 0}}))
	must(l.Close())
	name := filepath.Join(dir, "0000000000000000-0000000000000000.wal")
	if mode := must1(os.Stat(dir)).Mode(); mode != fs.ModeDir|0o700 {
		t.Errorf("directory mode %v", mode)
	}
	info := must1(os.Stat(name))
	if info.Size() != 1<<20 || info.Mode() != 0o600 {
		t.Errorf("size %d, mode %v", info.Size(), info.Mode())
	}
	must(os.Truncate(name, 1000))
	l, rec, err := Open(cfg)
	must(err)
	if size := must1(os.Stat(name)).Size(); size != 1<<20 || len(rec.Entries) != 1 {
		t.Errorf("reopened: size %d, entries %v", size, rec.Entries)
	}
	must(l.Append(Save{Entries: []*raftpb.Entry{normal(1, 2, bytes.Repeat([]byte("b"), 2<<20))}}))
	must(l.Prepare())
	must(l.Append(Save{Entries: []*raftpb.Entry{normal(1, 3, []byte("c"))}}))
	must(l.Close())
	if names := must1(os.ReadDir(dir)); len(names) != 2 {
		t.Errorf("files %v", names)
	}
	if sum, err := Verify(vfs.Default, dir); err != nil || sum.Last != 3 {
		t.Errorf("verify: %+v, %v", sum, err)
	}
}

func TestNotFound(t *testing.T) {
	if _, _, err := Open(Config{FS: vfs.NewMem(), Dir: "none", Log: quiet()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("open: %v", err)
	}
	if _, err := Verify(vfs.NewMem(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("verify: %v", err)
	}
	if _, err := Create(Config{}, Metadata{}); err == nil {
		t.Error("a log without a file system")
	}
}

// What does an append cost beside its sync? A put of 256 B goes through encode, checksum, copy and one write; expected is
// well under 1 µs of CPU each, plus one system call for a batch. The disk is a file in a temporary directory.
func BenchmarkAppend(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		for _, sync := range []bool{true, false} {
			b.Run(fmt.Sprintf("entries=%d/sync=%v", batch, sync), func(b *testing.B) {
				benchmarkAppend(b, batch, sync)
			})
		}
	}
}

func benchmarkAppend(b *testing.B, batch int, sync bool) {
	cfg := Config{FS: vfs.Default, Dir: filepath.Join(b.TempDir(), "wal"), Log: quiet(), UnsafeNoSync: !sync}
	l, err := Create(cfg, Metadata{1, 2})
	must(err)
	data := bytes.Repeat([]byte("v"), 300)
	entries := make([]*raftpb.Entry, batch)
	index := uint64(0)
	b.ReportAllocs()
	b.SetBytes(int64(batch * len(data)))
	for b.Loop() {
		for i := range entries {
			index++
			entries[i] = normal(1, index, data)
		}
		if err := l.Append(Save{Entries: entries, State: HardState{1, 1, index - uint64(batch)}}); err != nil {
			b.Fatal(err)
		}
		if index%10000 < uint64(batch) && index > 20000 {
			if _, err := l.Release(SnapshotRecord{Index: index - uint64(batch), Term: 1, ConfState: &raftpb.ConfState{}}, index-10000); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(index), "ns/entry")
	must(l.Close())
}

// How long does a start take? Reading is bound by memory bandwidth when the files are cached: expected is about 1 GB/s
// where entries are kept and more where they are only checked.
func BenchmarkOpen(b *testing.B) {
	cfg := Config{FS: vfs.Default, Dir: filepath.Join(b.TempDir(), "wal"), Log: quiet(), UnsafeNoSync: true}
	l, err := Create(cfg, Metadata{1, 2})
	must(err)
	const last = 350_000
	for index := uint64(0); index < last; {
		var entries []*raftpb.Entry
		for range 100 {
			index++
			entries = append(entries, normal(1, index, make([]byte, 300)))
		}
		must(l.Append(Save{Entries: entries, State: HardState{1, 1, index}}))
	}
	must(l.Close())
	for _, after := range []uint64{0, last - 1000} {
		b.Run(fmt.Sprintf("entries=%d", last-after), func(b *testing.B) {
			for b.Loop() {
				l, rec, err := OpenAfter(cfg, after)
				if err != nil || uint64(len(rec.Entries)) != last-after {
					b.Fatal(err, len(rec.Entries))
				}
				must(l.Close())
			}
		})
	}
}

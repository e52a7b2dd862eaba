package server

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/storage"
)

// twoDisks tells for each directory how full its disk is.
type twoDisks struct {
	vfs.FS
	of map[string]vfs.DiskUsage
}

// GetDiskUsage implements vfs.FS.
func (d twoDisks) GetDiskUsage(dir string) (vfs.DiskUsage, error) { return d.of[dir], nil }

// TestSpaceGuardWatchesBothDisks: the raft log on a disk of its own is watched as the store's is, one disk that holds both is
// spoken of once, and a log that is about to be made is looked for where it will be.
func TestSpaceGuardWatchesBothDisks(t *testing.T) {
	_, mem := memoryConfig()
	for _, dir := range []string{"data", "logs"} {
		if err := mem.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name     string
		log      vfs.DiskUsage // at first
		lines    int           // said when both have become full
		segments int64
	}{
		{"another disk", vfs.DiskUsage{TotalBytes: 64 * mib, AvailBytes: 64 * mib}, 2, 2 * mib},
		{"the same disk", vfs.DiskUsage{TotalBytes: 512 * mib, AvailBytes: 512 * mib}, 1, 16 * mib},
	} {
		disks := twoDisks{mem, map[string]vfs.DiskUsage{"data": {TotalBytes: 512 * mib, AvailBytes: 512 * mib}, "logs": c.log}}
		g, err := newSpaceGuard(disks, "data", "logs/new/wal")
		if err != nil {
			t.Fatal(err)
		}
		if g.segmentBytes() != c.segments || g.low.Load() {
			t.Errorf("%s: segments of %d, low %t", c.name, g.segmentBytes(), g.low.Load())
		}
		var said strings.Builder
		log := slog.New(slog.NewTextHandler(&said, nil))
		for dir, usage := range disks.of {
			usage.AvailBytes = 1
			disks.of[dir] = usage
			if c.lines == 1 {
				continue
			}
			if err := g.look(log); err != nil || !g.low.Load() {
				t.Errorf("%s: %s is full; low %t, %v", c.name, dir, g.low.Load(), err)
			}
		}
		if err := g.look(log); err != nil || !g.low.Load() {
			t.Errorf("%s: full; low %t, %v", c.name, g.low.Load(), err)
		}
		if got := strings.Count(said.String(), "nearly full"); got != c.lines {
			t.Errorf("%s: said %d times, want %d:\n%s", c.name, got, c.lines, said.String())
		}
	}
}

// TestSpaceGuardLooksAgainWhenMuchWasAdmitted fills a disk between two looks of the clock: what was admitted makes the guard look
// by itself, before the reserve is gone, and the log is told to shrink.
func TestSpaceGuardLooksAgainWhenMuchWasAdmitted(t *testing.T) {
	_, fs := memoryConfig()
	disk := &fullFS{FS: fs, total: 64 * mib, free: 64 * mib}
	g, err := newSpaceGuard(disk, "data", "wal")
	if err != nil {
		t.Fatal(err)
	}
	free, refused := disk.total, false
	for !refused && free > 0 {
		const cost = 60_000
		room, err := g.admit(cost, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if refused = !room; room {
			free -= cost
			disk.set(free, nil)
		}
	}
	if want := int64(8 * mib / storage.SublevelsMerged); g.flushBytes(0) != want {
		t.Errorf("flushes after %d bytes, not %d", g.flushBytes(0), want)
	}
	if free < g.store.reserve*3/4 {
		t.Errorf("refused with %d free of a reserve of %d", free, g.store.reserve)
	}
	select {
	case <-g.lowered:
	default:
		t.Error("nobody was told that the disk is low")
	}
}

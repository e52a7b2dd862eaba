package server

import (
	"log/slog"
	"testing"
)

// TestSpaceGuardLooksAgainWhenMuchWasAdmitted fills a disk between two looks of the clock: what was admitted makes the guard look
// by itself, before the reserve is gone, and the log is told to shrink.
func TestSpaceGuardLooksAgainWhenMuchWasAdmitted(t *testing.T) {
	_, fs := memoryConfig()
	disk := &fullFS{FS: fs, total: 64 * mib, free: 64 * mib}
	g, err := newSpaceGuard(disk, "data")
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
	if want := int64(1 * mib); g.flushBytes() != want {
		t.Errorf("flushes after %d bytes, not %d", g.flushBytes(), want)
	}
	if free < g.reserve*3/4 {
		t.Errorf("refused with %d free of a reserve of %d", free, g.reserve)
	}
	select {
	case <-g.lowered:
	default:
		t.Error("nobody was told that the disk is low")
	}
}

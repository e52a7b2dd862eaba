package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/lease"
	"holdfast/raftlog"
)

// TestOpenLetsGoOfWhatItCannotUse opens a directory whose raft log is gone: Open says so, and holds neither the lock nor the
// store afterwards, so that the next Open says the same.
func TestOpenLetsGoOfWhatItCannotUse(t *testing.T) {
	cfg := testConfig(t.TempDir())
	m := start(t, cfg)
	m.put("k", "v")
	m.stop()
	if err := os.RemoveAll(filepath.Join(cfg.DataDir, "member", "wal")); err != nil {
		t.Fatal(err)
	}
	_, first := Open(cfg)
	_, second := Open(cfg)
	if first == nil || second == nil || first.Error() != second.Error() {
		t.Fatalf("opened without a raft log: %v, then %v", first, second)
	}
}

// TestOpenRefusesToLeaveALogBehind kills a member before its store is durable and starts it with another --wal-dir: what it
// acknowledged is in the log that stays behind.
func TestOpenRefusesToLeaveALogBehind(t *testing.T) {
	cfg := testConfig(t.TempDir())
	dir, err := openDataDir(vfs.Default, cfg.DataDir, "")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := foundingEntries(cfg.Founders)
	if err != nil {
		t.Fatal(err)
	}
	log, err := raftlog.Create(raftlog.Config{FS: vfs.Default, Dir: dir.wal, Log: cfg.Log, SegmentBytes: cfg.SegmentBytes},
		raftlog.Metadata{NodeID: uint64(cfg.Founders[0].ID), ClusterID: cfg.clusterID()},
		raftlog.Save{Entries: entries, State: raftlog.HardState{Term: 1, Commit: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.Close(), dir.lock.Close()); err != nil {
		t.Fatal(err)
	}
	moved := cfg
	moved.WALDir = t.TempDir()
	if _, err := Open(moved); err == nil || !strings.Contains(err.Error(), "start without --wal-dir") {
		t.Fatalf("left the log behind: %v", err)
	}
	start(t, cfg).put("k", "v")
}

// TestOpenRefusesAnEmptyLogBehindAStore gives a member whose store has applied entries a log without any, as it may be left
// when syncs were left out. That must not be taken for a new cluster.
func TestOpenRefusesAnEmptyLogBehindAStore(t *testing.T) {
	cfg := testConfig(t.TempDir())
	m := start(t, cfg)
	m.put("k", "v")
	m.stop()
	wal := filepath.Join(cfg.DataDir, "member", "wal")
	if err := os.RemoveAll(wal); err != nil {
		t.Fatal(err)
	}
	log, err := raftlog.Create(raftlog.Config{FS: vfs.Default, Dir: wal, Log: cfg.Log, SegmentBytes: cfg.SegmentBytes},
		raftlog.Metadata{NodeID: uint64(m.ID()), ClusterID: m.ClusterID()})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(cfg); !errors.Is(err, raftlog.ErrDamaged) {
		t.Fatalf("opened %v with an empty log: %v", s, err)
	}
}

// TestLeaseClockTellsWhenItRuns starts and stops the clock that LeaseTimeToLive and LeaseRenew wait for.
func TestLeaseClockTellsWhenItRuns(t *testing.T) {
	runs := func(c *leaseClock) bool {
		select {
		case <-c.runs():
			return true
		default:
			return false
		}
	}
	c := newLeaseClock(time.Now, true)
	for range 2 {
		if runs(c) {
			t.Fatal("runs before its start")
		}
		c.start(1, func() []lease.Lease { return nil }, 0)
		c.start(1, func() []lease.Lease { return nil }, 0) // led on in a new term
		if !runs(c) {
			t.Fatal("does not run after its start")
		}
		c.stop()
	}
}

package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/membership"
)

// segments counts the files of the raft log.
func segments(t *testing.T, fs vfs.FS) (n int) {
	t.Helper()
	names, err := fs.List("data/member/wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".wal") {
			n++
		}
	}
	return n
}

// TestLogIsReleased writes many times what a segment holds. What the store has made durable goes from the log but for what
// slow members may want, after a restart everything is there, and no file is removed before its content is durable in
// the store: the crash test in found_test.go shows that.
func TestLogIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		cfg.SnapshotEvery, cfg.CatchUpEntries, cfg.Memory.FlushBytes, cfg.SegmentBytes = 100, 10, 64<<10, 64<<10
		m := start(t, cfg)
		most := 0
		for i := range 3000 {
			m.put(fmt.Sprint("k", i%100), strings.Repeat("x", 500))
			if i%100 == 0 {
				pause(cfg)
				most = max(most, segments(t, fs))
			}
		}
		if most > 6 {
			t.Errorf("the log grew to %d files of 64 KiB for 1.5 MB of writes", most)
		}
		hash, err := m.HashKV(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		m.stop()
		m = start(t, cfg)
		if again, err := m.HashKV(t.Context(), 0); err != nil || again.Sum != hash.Sum || again.Revision != hash.Revision {
			t.Errorf("after a restart HashKV is %+v, %v, was %+v", again, err, hash)
		}
	})
}

// TestQuietMemberBecomesDurable: what was written goes to the store's files after a minute, so that a start replays
// little.
func TestQuietMemberBecomesDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		m.put("k", "v")
		time.Sleep(62 * time.Second)
		durable, err := m.store.Durable()
		if err != nil || durable.Index != m.Status().Applied {
			t.Errorf("entry %d of %d is durable after a minute: %v", durable.Index, m.Status().Applied, err)
		}
	})
}

// TestYoungMemberBecomesDurable: soon after its founding a member's store shows that there is one, so that it is not founded
// again if its log is missing.
func TestYoungMemberBecomesDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		time.Sleep(2 * time.Second)
		if durable, err := m.store.Durable(); err != nil || durable.Index == 0 {
			t.Errorf("two seconds after its founding a member's store shows entry %d: %v", durable.Index, err)
		}
	})
}

// TestSnapshotIsADatabaseOfEtcd fills a member with everything that a database file holds, takes a snapshot while writes
// go on, and reads it back: digest, keys, hash, leases, members, alarms and indexes are those of one moment.
func TestSnapshotIsADatabaseOfEtcd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		m := start(t, cfg)
		for i := range 200 {
			m.put(fmt.Sprint("k", i%50), fmt.Sprint(i))
		}
		if err := m.tryDelete("k7"); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Compact(t.Context(), kv.CompactRequest{Revision: 100, Physical: true}); err != nil {
			t.Fatal(err)
		}
		m.grant(7, 100)
		m.putLeased("leased", 7)
		if _, err := m.Alarm(t.Context(), AlarmActivate, membership.Alarm{Member: m.ID(), Type: membership.AlarmNoSpace}); err != nil {
			t.Fatal(err)
		}
		hash, err := m.HashKV(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		applied := m.Status().Applied
		snap, err := m.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.tryDelete("k8"); err != nil { // later than the snapshot
			t.Fatal(err)
		}
		data, err := io.ReadAll(snap)
		if err != nil || int64(len(data)) != snap.Size || snap.Version != "3.7.0" {
			t.Fatalf("read %d bytes of %d, version %s: %v", len(data), snap.Size, snap.Version, err)
		}
		if err := snap.Close(); err != nil {
			t.Error(err)
		}
		if names, err := fs.List("data/member/tmp"); err != nil || len(names) != 0 {
			t.Errorf("the snapshot left %v behind: %v", names, err)
		}
		body, digest := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
		if sum := sha256.Sum256(body); string(sum[:]) != string(digest) {
			t.Error("the digest is not that of the database")
		}
		writeFile(t, fs, "snapshot.db", string(body))
		checkDatabase(t, fs, hash.Sum, m, applied)
	})
}

func checkDatabase(t *testing.T, fs vfs.FS, hash uint32, m *member, applied kv.Index) {
	db, err := etcdfile.Open(fs, "snapshot.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Check(); err != nil {
		t.Error(err)
	}
	if h, err := etcdfile.HashKV(db, 0); err != nil || h.Sum != hash {
		t.Errorf("HashKV of the file is %+v, %v, want %d", h, err, hash)
	}
	meta, err := db.Meta()
	if err != nil || meta.Applied != applied || meta.ConfState == nil || meta.ClusterVersion != "3.7.0" || meta.Term == 0 {
		t.Errorf("the file stands at %+v, %v, want entry %d", meta, err, applied)
	}
	for l, err := range db.Leases() {
		if err != nil || l.ID != 7 || l.TTL != 100 {
			t.Errorf("lease %+v, %v", l, err)
		}
	}
	n := 0
	for one, err := range db.Members() {
		n++
		if err != nil || one.ID != m.ID() || one.Name != "default" || len(one.ClientURLs) != 1 {
			t.Errorf("member %+v, %v", one, err)
		}
	}
	for a, err := range db.Alarms() {
		n++
		if err != nil || a.Member != m.ID() || a.Kind != int32(membership.AlarmNoSpace) {
			t.Errorf("alarm %+v, %v", a, err)
		}
	}
	if n != 2 {
		t.Errorf("%d members and alarms, want one of each", n)
	}
}

// TestSnapshotsOfACrashAreRemoved: what a killed member had half sent is gone at the next start.
func TestSnapshotsOfACrashAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		m := start(t, cfg)
		snap, err := m.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 0))})
		if err := snap.Close(); err != nil {
			t.Error(err)
		}
		m.stop()
		cfg.FS = crashed
		start(t, cfg)
		if names, err := crashed.List("data/member/tmp"); err != nil || len(names) != 0 {
			t.Errorf("member/tmp holds %v, %v", names, err)
		}
	})
}

// TestSnapshotIsGivenUp when its client has gone or the disk becomes nearly full: what was written goes, and the next one
// works.
func TestSnapshotIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		m := start(t, cfg)
		m.put("k", "v")
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, goneErr := m.Snapshot(gone)
		m.space.low.Store(true)
		_, lowErr := m.Snapshot(t.Context())
		m.space.low.Store(false)
		if !errors.Is(goneErr, context.Canceled) || !errors.Is(lowErr, errNoSnapshotSpace) {
			t.Errorf("without a client: %v, on a full disk: %v", goneErr, lowErr)
		}
		if names, err := fs.List("data/member/tmp"); err != nil || len(names) != 0 {
			t.Errorf("member/tmp holds %v, %v", names, err)
		}
		snap, err := m.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := snap.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestIdleLetsGo: tables that were merged away while gets still had iterators on them go from the disk of a member that does nothing more.
func TestIdleLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		cfg.Memory.RowCacheBytes = -1
		m := start(t, cfg)
		for i := range 3 {
			m.put(fmt.Sprint("k", i), "v")
			if err := m.store.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		q := &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k0")}, Serializable: true}
		if r, err := m.Range(t.Context(), q); err != nil || r.Rows.Len() != 1 {
			t.Fatal(r, err)
		}
		if err := m.store.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		held := func() (held int) {
			names, err := fs.List(m.store.Dir())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if strings.HasSuffix(name, ".sst") {
					held++
				}
			}
			s, err := m.store.Stats()
			if err != nil {
				t.Fatal(err)
			}
			return held - s.Tables
		}
		if held() == 0 {
			t.Error("no iterator keeps a table: the test shows nothing")
		}
		pause(cfg)
		synctest.Wait()
		if n := held(); n != 0 {
			t.Errorf("%d tables are kept after a second", n)
		}
		m.stop()
	})
}

package server

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
)

// goldenDatabase puts a database that a real etcd wrote, with all there can be in one, on a disk.
func goldenDatabase(t *testing.T, disk vfs.FS, path string) {
	t.Helper()
	f, err := os.Open("../etcdfile/testdata/golden.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, disk, path, string(content))
}

// founders are members of a cluster that is to be.
func founders(names ...string) []membership.Member {
	var all []membership.Member
	for i, name := range names {
		urls := []string{fmt.Sprint("http://10.0.0.", i+1, ":2380")}
		all = append(all, membership.Member{ID: membership.MemberID(urls, "t", 0), Name: name, PeerURLs: urls})
	}
	return all
}

// restoreGolden makes dir the directory of a member that begins with the golden database, and returns the hash of what it holds.
func restoreGolden(t *testing.T, disk vfs.FS, dir string, members []membership.Member, bump kv.Revision) etcdfile.Hash {
	t.Helper()
	goldenDatabase(t, disk, "golden.db")
	db, err := etcdfile.Open(disk, "golden.db")
	if err != nil {
		t.Fatal(err)
	}
	r := Restore{FS: disk, Snapshot: db, DataDir: dir, Founders: members, Name: members[0].Name, Bump: bump, Log: slog.New(slog.DiscardHandler), segmentBytes: 1 << 16}
	was, is, err := r.Run()
	if err != nil || was != 452 || is != 452+bump {
		t.Fatalf("restored from %v to %v: %v", was, is, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return databaseHash(t, disk, disk.PathJoin(dir, "member", "snap", "db"))
}

func databaseHash(t *testing.T, disk vfs.FS, path string) etcdfile.Hash {
	t.Helper()
	db, err := etcdfile.Open(disk, path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := etcdfile.HashKV(db, 0)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return h
}

func storeHash(t *testing.T, disk vfs.FS, dir string) etcdfile.Hash {
	t.Helper()
	o := openOffline(t, disk, dir)
	h, err := o.Keys().HashKV(t.Context(), 0)
	if err := errors.Join(err, o.Close()); err != nil {
		t.Fatal(err)
	}
	return etcdfile.Hash(h)
}

// openOffline opens a member that does not run, with all that it has acknowledged applied.
func openOffline(t *testing.T, disk vfs.FS, dir string) *Offline {
	t.Helper()
	o, err := OpenOffline(OfflineConfig{FS: disk, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Apply(o.Acknowledged()); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestRestoredDirectoryStarts: a member starts from what a restore made, with the members that were named and the keys of the
// snapshot, serves, and starts again.
func TestRestoredDirectoryStarts(t *testing.T) {
	for _, bump := range []kv.Revision{0, 1000} {
		synctest.Test(t, func(t *testing.T) {
			cfg, disk := memoryConfig()
			want := restoreGolden(t, disk, cfg.DataDir, cfg.Founders, bump)
			look := cfg
			if found, err := look.HasData(); err != nil || !found {
				t.Fatalf("it has data: %v, %v", found, err)
			}
			for range 2 {
				m := start(t, cfg)
				if h, err := m.keys.HashKV(t.Context(), 0); err != nil || etcdfile.Hash(h) != want {
					t.Errorf("bumped by %v: the hash is %+v, %v; that of the database %+v", bump, h, err, want)
				}
				if got := m.cluster.Members(); len(got) != 1 || got[0].ID != cfg.Founders[0].ID || len(m.cluster.RemovedMembers()) != 0 {
					t.Errorf("bumped by %v: the members are %+v", bump, got)
				}
				m.stop()
			}
			if m := newDataDir(disk, cfg.DataDir, ""); m.has(m.path("snap")) || m.has(m.path(snapTaken)) || m.isEtcds() {
				t.Error("the etcd's files are still there")
			}
		})
	}
}

// TestTakeOverSurvivesCrashes crashes before each operation on the disk while a member takes a restored directory over. Then it is
// etcd's, whole, or ours; in either case the next start has everything.
func TestTakeOverSurvivesCrashes(t *testing.T) {
	disk := newCrashingFS(1)
	want := restoreGolden(t, disk, "d", founders("a"), 0)
	disk.crashes = nil
	take := TakeOver{FS: disk, From: "d", Log: slog.New(slog.DiscardHandler)}
	if err := take.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.crash()
	etcds, taken := 0, 0
	for i, crashed := range disk.crashes {
		d := newDataDir(crashed, "d", "")
		switch ours := d.hasStore(); {
		case !ours && d.has(d.path("snap", "db")):
			etcds++
			if got := databaseHash(t, crashed, "d/member/snap/db"); got != want {
				t.Fatalf("crash %d: the etcd's hash is %+v, was %+v", i, got, want)
			}
		case ours:
			taken++
		}
		if err := d.refuseForeign(); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		if d.isEtcds() {
			again := TakeOver{FS: crashed, From: "d", Log: slog.New(slog.DiscardHandler)}
			if err := again.Run(t.Context()); err != nil {
				t.Fatalf("crash %d: again: %v", i, err)
			}
		}
		if got := storeHash(t, crashed, "d"); got != want {
			t.Fatalf("crash %d: the hash is %+v, was %+v", i, got, want)
		}
	}
	if etcds < 10 || taken < 2 {
		t.Errorf("%d crashes before the take-over, %d after it", etcds, taken)
	}
}

// TestTakeOverRefuses is the table of directories that cannot be taken over. Nothing is changed in them.
func TestTakeOverRefuses(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, disk vfs.FS){
		"no raft log": func(t *testing.T, disk vfs.FS) { remove(t, disk, "d/member/wal") },
		"a damaged database": func(t *testing.T, disk vfs.FS) {
			remove(t, disk, "d/member/snap/db")
			writeFile(t, disk, "d/member/snap/db", "nothing")
		},
		"a store of ours beside it": func(t *testing.T, disk vfs.FS) { writeFile(t, disk, "d/member/store/x", "") },
		"a database ahead of the log": func(t *testing.T, disk vfs.FS) { // that of another directory
			remove(t, disk, "d/member/snap/db")
			restoreGolden(t, disk, "e", founders("a", "b", "c"), 0)
			if err := disk.Rename("e/member/snap/db", "d/member/snap/db"); err != nil {
				t.Fatal(err)
			}
		},
		"a log ahead of the database": func(t *testing.T, disk vfs.FS) {
			remove(t, disk, "d/member/wal")
			restoreGolden(t, disk, "e", founders("a", "b", "c"), 0)
			if err := disk.Rename("e/member/wal", "d/member/wal"); err != nil {
				t.Fatal(err)
			}
		},
		"a key of etcd's v2 API in the log": func(t *testing.T, disk vfs.FS) {
			appendEntry(t, disk, "d/member/wal", "\x08\x01\x12\x03PUT\x1a\x06/1/foo\x22\x03bar")
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMem()
			restoreGolden(t, disk, "d", founders("a"), 0)
			spoil(t, disk)
			for _, to := range []string{"", "to"} {
				take := TakeOver{FS: disk, From: "d", To: to, Log: slog.New(slog.DiscardHandler)}
				if err := take.Run(t.Context()); err == nil {
					t.Errorf("taken over to %q", to)
				}
				if _, err := disk.Stat("d/member/snap/db"); err != nil {
					t.Errorf("the database is gone: %v", err)
				}
				if names, err := disk.List("to/member"); err == nil && len(names) > 0 {
					t.Errorf("it left %v", names)
				}
			}
		})
	}
}

// appendEntry writes one more entry into the log of an etcd.
func appendEntry(t *testing.T, disk vfs.FS, wal, payload string) {
	t.Helper()
	log, rec, err := raftlog.Open(raftlog.Config{FS: disk, Dir: wal, Log: slog.New(slog.DiscardHandler), SegmentBytes: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	e := &raftpb.Entry{Term: proto.Uint64(1), Index: proto.Uint64(rec.Last + 1), Data: []byte(payload)}
	if err := errors.Join(log.Append(raftlog.Save{Entries: []*raftpb.Entry{e}}), log.Close()); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, disk vfs.FS, path string) {
	t.Helper()
	if err := disk.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestRunDirectoryOfEtcdIsNotTaken: a directory that an etcd has run on stays its own unless somebody says otherwise.
func TestRunDirectoryOfEtcdIsNotTaken(t *testing.T) {
	disk := vfs.NewMem()
	restoreGolden(t, disk, "d", founders("a"), 0)
	d := newDataDir(disk, "d", "")
	if err := d.refuseForeign(); err != nil {
		t.Errorf("as it was restored: %v", err)
	}
	elected(t, disk, d.wal)
	if err := d.refuseForeign(); err == nil {
		t.Error("after an election it is still taken")
	}
}

// TestThereAndBack goes from a member that was killed to an etcd's directory and back, into directories of their own and in
// place: the hash stays, also that of what is in the log only.
func TestThereAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, disk := memoryConfig()
		m := start(t, cfg)
		for i := range 20 {
			m.put(fmt.Sprint("k", i%7), fmt.Sprint(i))
		}
		if err := m.store.Flush(); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			m.put(fmt.Sprint("tail", i), fmt.Sprint(i))
		}
		h, err := m.keys.HashKV(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		want := etcdfile.Hash(h)
		crashed := disk.CrashClone(vfs.CrashCloneCfg{})
		m.stop()
		if got := storeHash(t, crashed, cfg.DataDir); got != want {
			t.Errorf("the killed member's files give %+v, it gave %+v", got, want)
		}
		log := slog.New(slog.DiscardHandler)
		export := ExportEtcd{FS: crashed, DataDir: cfg.DataDir, To: "etcd"}
		if err := export.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := export.Run(t.Context()); !errors.Is(err, fs.ErrExist) {
			t.Errorf("exported over what is there: %v", err)
		}
		for _, take := range []TakeOver{{FS: crashed, From: "etcd", To: "new"}, {FS: crashed, From: "etcd"}} {
			take.Log = log
			if err := take.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			dir := "new"
			if take.To == "" {
				dir = "etcd"
			}
			if got := storeHash(t, crashed, dir); got != want {
				t.Errorf("%s: the hash is %+v, was %+v", dir, got, want)
			}
		}
	})
}

// TestOfflineMemberIsNotChanged opens a killed member's files to look, with its log applied in memory: not a byte of them is another
// afterwards.
func TestOfflineMemberIsNotChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, disk := memoryConfig()
		m := start(t, cfg)
		rev := m.put("k", "v")
		crashed := disk.CrashClone(vfs.CrashCloneCfg{})
		m.stop()
		before := crashed.String()
		o := openOffline(t, crashed, cfg.DataDir)
		if got := o.Revision(); got != rev || o.State().Last != o.Applied() || o.State().Member != m.ID() {
			t.Errorf("%+v at revision %v after entry %d; it was %v at %v", o.State(), got, o.Applied(), m.ID(), rev)
		}
		src, done, err := o.Source(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s, err := etcdfile.StatusOf(src); err != nil || s.Revision != rev || s.Keys != 1 {
			t.Errorf("its status is %+v, %v", s, err)
		}
		if err := errors.Join(done(), o.Close()); err != nil {
			t.Fatal(err)
		}
		if after := crashed.String(); after != before {
			t.Errorf("the files were\n%s\nand are\n%s", before, after)
		}
	})
}

// TestTakeOverEndsWhenAsked: an interrupted import leaves the etcd's directory as it was.
func TestTakeOverEndsWhenAsked(t *testing.T) {
	disk := vfs.NewMem()
	restoreGolden(t, disk, "d", founders("a"), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, to := range []string{"", "to"} {
		take := TakeOver{FS: disk, From: "d", To: to, Log: slog.New(slog.DiscardHandler)}
		if err := take.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("to %q: %v", to, err)
		}
	}
	if d := newDataDir(disk, "d", ""); !d.isEtcds() || d.has(d.path(storeFirst+storeUnfinished)) {
		t.Error("something was changed")
	}
	take := TakeOver{FS: disk, From: "d", To: "to", Log: slog.New(slog.DiscardHandler)}
	if err := take.Run(t.Context()); err != nil {
		t.Errorf("what the first try left is in the way of the second: %v", err)
	}
}

// elected adds to a log what the first election of its member does.
func elected(t *testing.T, disk vfs.FS, wal string) {
	t.Helper()
	log, rec, err := raftlog.Open(raftlog.Config{FS: disk, Dir: wal, Log: slog.New(slog.DiscardHandler), SegmentBytes: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	state := raftlog.HardState{Term: 2, Vote: rec.Metadata.NodeID, Commit: rec.State.Commit}
	if err := errors.Join(log.Append(raftlog.Save{State: state}), log.Close()); err != nil {
		t.Fatal(err)
	}
}

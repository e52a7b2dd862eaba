package raftlog

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const (
	fixtureNode    = 0x8e9e05c52164694d
	fixtureCluster = 0xcdf818194e3a8c32
	fixtureDir     = "testdata/etcd-3.7"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// untyped returns an entry that has no type field, as raft makes for a new leader.
func untyped(term, index uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Term: &term, Index: &index, Data: data}
}

func typed(t raftpb.EntryType, term, index uint64, data []byte) *raftpb.Entry {
	e := untyped(term, index, data)
	e.Type = t.Enum()
	return e
}

func normal(term, index uint64, data []byte) *raftpb.Entry {
	return typed(raftpb.EntryType_EntryNormal, term, index, data)
}

// fixtureSaves are the calls that made the fixture, in our terms.
func fixtureSaves() []Save {
	saves := []Save{
		{Entries: []*raftpb.Entry{typed(raftpb.EntryType_EntryConfChange, 1, 1, []byte(`{"id":1}`))}, State: HardState{1, 0, 1}},
		{State: HardState{2, fixtureNode, 1}},
		{Entries: []*raftpb.Entry{untyped(2, 2, nil)}, State: HardState{2, fixtureNode, 1}},
	}
	for i := uint64(3); i <= 40; i++ {
		saves = append(saves, Save{
			Entries: []*raftpb.Entry{normal(2, i, bytes.Repeat([]byte{byte(i)}, int(i*13%300)))},
			State:   HardState{2, fixtureNode, i - 1},
		})
	}
	conf := &raftpb.ConfState{Voters: []uint64{fixtureNode, 7}, Learners: []uint64{9}, AutoLeave: new(bool)}
	return append(saves,
		Save{Snapshot: &SnapshotRecord{Index: 39, Term: 2, ConfState: conf}},
		Save{
			Entries: []*raftpb.Entry{
				normal(3, 40, []byte("replaced")),
				typed(raftpb.EntryType_EntryConfChangeV2, 3, 41, []byte{}),
			},
			State: HardState{3, 7, 39},
		},
		Save{State: HardState{3, 7, 41}},
	)
}

// The same calls leave the same bytes in the same files as etcd's own writer.
func TestWritesWhatEtcdWrites(t *testing.T) {
	fsys := vfs.NewMem()
	l, err := Create(Config{FS: fsys, Dir: "wal", Log: quiet(), SegmentBytes: 4096}, Metadata{fixtureNode, fixtureCluster})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range fixtureSaves() {
		if err := l.Append(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(fixtureDir, "*.wal"))
	if err != nil || len(names) != 3 {
		t.Fatalf("fixture: %v, %v", names, err)
	}
	got, err := fsys.List("wal")
	if err != nil || len(got) != len(names) {
		t.Fatalf("files %v, %v; want %v", got, err, names)
	}
	for _, name := range names {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := readFile(t, fsys, "wal/"+filepath.Base(name))
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, etcd's %d, first difference at %d", name, len(got), len(want), firstDifference(got, want))
		}
	}
}

// What etcd wrote is read back record for record, and can be appended to.
func TestReadsWhatEtcdWrote(t *testing.T) {
	fsys := vfs.NewMem()
	if err := fsys.MkdirAll("wal", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Clone(vfs.Default, fsys, fixtureDir, "wal"); err != nil {
		t.Fatal(err)
	}
	l, rec, err := OpenAfter(Config{FS: fsys, Dir: "wal", Log: quiet(), SegmentBytes: 4096}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []*raftpb.Entry
	for _, s := range fixtureSaves() {
		for _, e := range s.Entries {
			want = append(want[:e.GetIndex()-1], e)
		}
	}
	wantEntries(t, rec.Entries, want)
	if rec.Metadata != (Metadata{fixtureNode, fixtureCluster}) || rec.State != (HardState{3, 7, 41}) {
		t.Errorf("metadata %x, state %+v", rec.Metadata, rec.State)
	}
	if n := len(rec.Snapshots); n != 2 || rec.Snapshots[1].Index != 39 || len(rec.Snapshots[1].ConfState.Voters) != 2 {
		t.Errorf("snapshot records %v", rec.Snapshots)
	}
	if err := l.Append(Save{Entries: []*raftpb.Entry{normal(3, 42, []byte("ours"))}}); err != nil {
		t.Fatal(err)
	}
	got, err := l.Entries(1, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, got, append(want, normal(3, 42, []byte("ours"))))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, rec, err = Open(Config{FS: fsys, Dir: "wal", Log: quiet(), SegmentBytes: 4096})
	if err != nil || rec.After != 39 || len(rec.Entries) != 3 {
		t.Fatalf("after %d: %d entries, %v", rec.After, len(rec.Entries), err)
	}
}

func wantEntries(t *testing.T, got, want []*raftpb.Entry) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range got {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("entry %d of the list: %v, want %v", i, got[i], want[i])
		}
	}
}

func readFile(t *testing.T, fsys vfs.FS, path string) []byte {
	t.Helper()
	f, err := fsys.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

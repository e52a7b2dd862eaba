package raftlog

import (
	"errors"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestCopy: a log of several segments and its copy hold the same, and go on alike; what is no log, or has a hole, is not copied.
func TestCopy(t *testing.T) {
	disk := vfs.NewMem()
	cfg := Config{FS: disk, Dir: "from", Log: quiet(), SegmentBytes: 4 << 10}
	l, err := Create(cfg, Metadata{NodeID: 1, ClusterID: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(20) {
		e := &raftpb.Entry{Index: proto.Uint64(i + 1), Term: proto.Uint64(1), Data: make([]byte, 1000)}
		if err := l.Append(Save{Entries: []*raftpb.Entry{e}, State: HardState{Term: 1, Vote: 1, Commit: i}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var copied int64
	if err := Copy(disk, "from", "a/to", func(n int64) { copied += n }); err != nil {
		t.Fatal(err)
	}
	want, err := Verify(disk, "from")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Verify(disk, "a/to"); err != nil || !reflect.DeepEqual(got, want) || len(got.Segments) < 3 || copied < 20_000 {
		t.Errorf("the copy of %d bytes: %+v, %v\nthe log: %+v", copied, got, err, want)
	}
	if err := Copy(disk, "nothing", "b", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a copy of nothing: %v", err)
	}
	if err := disk.Remove("from/" + want.Segments[1]); err != nil {
		t.Fatal(err)
	}
	if err := Copy(disk, "from", "c", nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("a copy of a log with a hole: %v", err)
	}
}

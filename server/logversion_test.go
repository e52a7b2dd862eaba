package server

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestEntryVersion is the table of entries and the versions that etcd's definitions name for what is in them.
func TestEntryVersion(t *testing.T) {
	entry := func(kind raftpb.EntryType, m proto.Message) *raftpb.Entry {
		t.Helper()
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return &raftpb.Entry{Type: kind.Enum(), Data: data}
	}
	request := func(q *pb.InternalRaftRequest) *raftpb.Entry { return entry(raftpb.EntryNormal, q) }
	for _, c := range []struct {
		name, want string
		entry      *raftpb.Entry
	}{
		{"nothing", "3.0.0", &raftpb.Entry{}},
		{"a put", "3.0.0", request(&pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte("k")}})},
		{"a put that keeps the lease", "3.2.0", request(&pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte("k"), IgnoreLease: true}})},
		{"an alarm of space", "3.0.0", request(&pb.InternalRaftRequest{Alarm: &pb.AlarmRequest{Alarm: pb.AlarmType_NOSPACE}})},
		{"an alarm of corruption", "3.3.0", request(&pb.InternalRaftRequest{Alarm: &pb.AlarmRequest{Alarm: pb.AlarmType_CORRUPT}})},
		{"a checkpoint of leases", "3.4.0", request(&pb.InternalRaftRequest{LeaseCheckpoint: &pb.LeaseCheckpointRequest{}})},
		{"a version of the cluster", "3.5.0", request(&pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: "3.7.0"}})},
		{"the same as etcd 3.5 writes it", "3.5.0", &raftpb.Entry{Data: []byte("\x08\x01\x12\x03PUT\x1a\x0a/0/version\x22\x053.5.0")}},
		{"a test of versions", "3.9.0", request(&pb.InternalRaftRequest{DowngradeVersionTest: &pb.DowngradeVersionTestRequest{Ver: "3.9.0"}})},
		{"a member", "3.0.0", entry(raftpb.EntryConfChange, &raftpb.ConfChange{NodeId: proto.Uint64(1)})},
		{"a change in two steps", "3.4.0", entry(raftpb.EntryConfChangeV2, &raftpb.ConfChangeV2{})},
	} {
		if got, err := entryVersion(c.entry); err != nil || got.String() != c.want {
			t.Errorf("%s: %v, %v; want %s", c.name, got, err, c.want)
		}
	}
	if _, err := entryVersion(&raftpb.Entry{Data: []byte{0xff}}); err == nil {
		t.Error("what is no request has a version")
	}
	disk := vfs.NewMem()
	restoreGolden(t, disk, "d", founders("a"), 0)
	if v, err := LogVersion(disk, "d/member/wal"); err != nil || v.String() != "0.0.0" {
		t.Errorf("a log without entries behind its snapshot record: %v, %v", v, err)
	}
}

package server

import (
	"testing"

	"go.etcd.io/etcd/api/v3/membershippb"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/kv"
)

// TestOperationNames: what dashboards group by are etcd's names, wherever the request stands in the payload.
func TestOperationNames(t *testing.T) {
	put, compact := kv.DraftOf(kv.KindPut, []byte("\n\x01k")), kv.DraftCompact(&kv.CompactRequest{Revision: 3})
	for want, payload := range map[string][]byte{
		"Put": put.Seal(kv.CommandHeader{ID: 7}), "Compaction": compact.Seal(kv.CommandHeader{ID: 7, Username: "u"}),
		"LeaseCheckpoint": cold(t, &pb.InternalRaftRequest{LeaseCheckpoint: &pb.LeaseCheckpointRequest{}}),
		"AuthUserAdd":     cold(t, &pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{}}),
		"Authenticate":    cold(t, &pb.InternalRaftRequest{ID: 5, Authenticate: &pb.InternalAuthenticateRequest{}}),
		"ClusterMemberAttrSet": cold(t, &pb.InternalRaftRequest{
			ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{Member_ID: 1}}),
		"Unknown": {0xff},
	} {
		if got := operationOf(payload); got != want {
			t.Errorf("%x is called %s, want %s", payload, got, want)
		}
	}
	if got := operationOf(nil); got != "Unknown" {
		t.Errorf("nothing is called %s", got)
	}
}

func cold(t *testing.T, q *pb.InternalRaftRequest) []byte {
	payload, err := kv.EncodeCold(kv.CommandHeader{ID: 7}, q)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

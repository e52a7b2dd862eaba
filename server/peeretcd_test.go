package server

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/kv"
	"holdfast/lease"
	"holdfast/mvcc"
	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestPeerClientAsksAnEtcd asks a real etcd as a member asks another: about leases, and for the hash of its keys, which is
// what a member of ours gives for the same history.
func TestPeerClientAsksAnEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	other, err := run.Start(t.Context(), run.Config{Binary: etcd.Binary(t, "etcd"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Kill)
	conn, err := grpc.NewClient(other.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := pb.NewLeaseClient(conn).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 7, TTL: 600}); err != nil {
		t.Fatal(err)
	}
	m := start(t, testConfig(t.TempDir()))
	m.grant(7, 600)
	var cluster uint64
	for _, key := range []string{"a", "b", "a"} {
		answer, err := pb.NewKVClient(conn).Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte("x"), Lease: 7})
		if err != nil {
			t.Fatal(err)
		}
		cluster = answer.Header.ClusterId
		m.putLeased(key, 7)
	}

	c, url := testPeerClient(t, peerClientConfig{}), "http://"+other.Peer
	if ttl, err := c.renewLease(t.Context(), url, 7); ttl != 600 || err != nil {
		t.Errorf("renewed for %d s: %v", ttl, err)
	}
	if _, err := c.renewLease(t.Context(), url, 8); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewed a lease that is not there: %v", err)
	}
	s, err := c.leaseTimeToLive(t.Context(), url, 7, true)
	if err != nil || s.Granted != 600 || s.Remaining < 500 || s.Remaining > 600 || len(s.Keys) != 2 {
		t.Errorf("it tells of the lease: %+v, %v", s, err)
	}
	if _, err := c.leaseTimeToLive(t.Context(), url, 8, false); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("it tells of a lease that is not there: %v", err)
	}

	for _, rev := range []kv.Revision{0, 3} {
		own, err := m.HashKV(t.Context(), rev)
		if err != nil {
			t.Fatal(err)
		}
		if p := c.hashKV(t.Context(), url, cluster, rev); p.err != nil || p.hash != own || p.revision != 4 {
			t.Errorf("the hash up to revision %s is %+v, ours %+v", rev, p, own)
		}
	}
	if p := c.hashKV(t.Context(), url, cluster, 9); !errors.Is(p.err, mvcc.ErrFutureRevision) {
		t.Errorf("asked for what has not been: %+v", p)
	}
	if p := c.hashKV(t.Context(), url, cluster+1, 3); !errors.Is(p.err, errPeerCluster) {
		t.Errorf("asked for another cluster: %+v", p)
	}
	if _, err := pb.NewKVClient(conn).Compact(t.Context(), &pb.CompactionRequest{Revision: 4, Physical: true}); err != nil {
		t.Fatal(err)
	}
	if p := c.hashKV(t.Context(), url, cluster, 3); !errors.Is(p.err, mvcc.ErrCompacted) {
		t.Errorf("asked for what is compacted: %+v", p)
	}
}

package mixed

import (
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestLeases renews leases through members of both kinds while members of both lead: none ends. Left alone, all end, and
// their keys with them.
func TestLeases(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	ctx := t.Context()
	cluster := open(t, []Kind{Etcd, Holdfast, Etcd})
	if err := cluster.renewals(ctx); err != nil {
		t.Fatalf("%v\nlogs are kept in %s", err, keepLogs(t, cluster))
	}
	if err := cluster.Healthy(ctx); err != nil {
		t.Fatal(err)
	}
}

const (
	leasesRenewed = 12
	leaseTTL      = 2 * electionMillis / 1000 * 2 // seconds; twice what an election may take at worst
)

func (c *Cluster) renewals(ctx context.Context) error {
	key := func(id int64) []byte { return fmt.Appendf(nil, "lease/%d", id) }
	for id := int64(1); id <= leasesRenewed; id++ {
		conn := c.Members[id%3].conn
		if _, err := pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: leaseTTL}); err != nil {
			return fmt.Errorf("grant lease %d: %w", id, err)
		}
		if _, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: key(id), Lease: id}); err != nil {
			return fmt.Errorf("put under lease %d: %w", id, err)
		}
	}
	for round := range 2 * len(c.Members) { // longer together than a lease lives
		if err := c.MoveLeader(ctx, c.Members[round%len(c.Members)]); err != nil {
			return err
		}
		for id := int64(1); id <= leasesRenewed; id++ {
			if err := c.Members[(id+int64(round))%3].renew(ctx, id); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
		}
		time.Sleep(leaseTTL * time.Second / 4)
	}
	return c.await(ctx, "all leases to end", func() error {
		for _, m := range c.Members {
			r, err := pb.NewKVClient(m.conn).Range(ctx, &pb.RangeRequest{Key: []byte("lease/"), RangeEnd: []byte("lease0")})
			if err != nil {
				return err
			}
			l, err := pb.NewLeaseClient(m.conn).LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
			if err != nil {
				return err
			}
			if r.Count > 0 || len(l.Leases) > 0 {
				return fmt.Errorf("%s has %d keys and %d leases", m, r.Count, len(l.Leases))
			}
		}
		return nil
	})
}

// renew renews a lease through a member.
func (m *Member) renew(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTTL*time.Second)
	defer cancel()
	stream, err := pb.NewLeaseClient(m.conn).LeaseKeepAlive(ctx)
	if err != nil {
		return fmt.Errorf("renew lease %d through %s: %w", id, m, err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		return fmt.Errorf("renew lease %d through %s: %w", id, m, err)
	}
	r, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("renew lease %d through %s: %w", id, m, err)
	}
	if r.TTL != leaseTTL {
		return fmt.Errorf("lease %d renewed through %s lives for %d s, not %d", id, m, r.TTL, leaseTTL)
	}
	return nil
}

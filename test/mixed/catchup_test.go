package mixed

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestCatchUp ends a member of one kind, writes on with a leader of the other, and starts it again: a little later, when the
// leader's log still has what it missed, and so much later that it has to be sent a snapshot. Before it serves it compares
// hashes with the others (InitialCorruptCheck). Then leadership moves to it, and it leads the others. Users are among what it has
// missed: it knows their passwords and what they may.
func TestCatchUp(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	for _, c := range []struct {
		from, to Kind
		kinds    []Kind
	}{
		{Etcd, Holdfast, []Kind{Etcd, Holdfast, Etcd}},
		{Holdfast, Etcd, []Kind{Holdfast, Etcd, Holdfast}},
	} {
		t.Run(fmt.Sprintf("from %s to %s", c.from, c.to), func(t *testing.T) {
			ctx := t.Context()
			cluster := open(t, c.kinds, "--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true")
			for _, way := range []string{"log", "snapshot"} {
				if err := cluster.miss(ctx, c.from, c.to, way); err != nil {
					t.Fatalf("by %s: %v\nlogs are kept in %s", way, err, keepLogs(t, cluster))
				}
			}
			if err := cluster.Healthy(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := cluster.Checked(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// miss lets a member of kind to miss entries under a leader of kind from and catch up, and checks which way it came.
func (c *Cluster) miss(ctx context.Context, from, to Kind, way string) error {
	leader, away := c.Members[0], c.Members[1]
	if leader.Kind != from || away.Kind != to {
		return fmt.Errorf("%s leads and %s is away, not members of %s and %s", leader, away, from, to)
	}
	if err := c.MoveLeader(ctx, leader); err != nil {
		return err
	}
	if err := c.write(ctx, leader, "before/"+way, 10, 100); err != nil {
		return err
	}
	if err := away.Stop(); err != nil {
		return err
	}
	before, err := c.snapshots()
	if err != nil {
		return err
	}
	if err := c.addUsers(ctx, leader, way); err != nil {
		return err
	}
	if err := c.away(ctx, leader, way); err != nil {
		return err
	}
	if err := c.Restart(ctx); err != nil {
		return err
	}
	if n, err := away.logged("initial corruption checking passed"); err != nil || n == 0 {
		return fmt.Errorf("%s has not compared hashes before it served: %v", away, err)
	}
	after, err := c.snapshots()
	if err != nil {
		return err
	}
	if (after > before) != (way == "snapshot") {
		return fmt.Errorf("%d snapshots came over, by %s was wanted", after-before, way)
	}
	if err := c.Agree(ctx); err != nil {
		return err
	}
	if err := c.MoveLeader(ctx, away); err != nil {
		return err
	}
	if err := c.write(ctx, leader, "after/"+way, 10, 100); err != nil {
		return err
	}
	if err := c.guard(ctx, away, way); err != nil {
		return err
	}
	return c.Agree(ctx)
}

// away is what a member misses. For a snapshot it is more than the leader's log keeps: with etcd that goes by the number of
// entries, with Holdfast also by their size, as it gives nothing up that its store has not written to disk.
func (c *Cluster) away(ctx context.Context, leader *Member, way string) error {
	if way == "log" {
		return c.write(ctx, leader, "missed", 10, 100)
	}
	if err := c.write(ctx, leader, "missed", 300, 100); err != nil {
		return err
	}
	if leader.Kind == Etcd {
		return nil
	}
	const value, releases = 1 << 20, "released the raft log"
	before, err := leader.logged(releases)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if now, err := leader.logged(releases); err != nil || now > before {
			return err
		}
		if n == 100 {
			return fmt.Errorf("%s has not released its log after %d MB", leader, n)
		}
		if err := c.write(ctx, leader, "large", 1, value); err != nil {
			return err
		}
	}
}

// write puts so many values of so many bytes, each linked to a lease of its own every tenth time.
func (c *Cluster) write(ctx context.Context, m *Member, prefix string, n, bytes int) error {
	value := []byte(strings.Repeat("v", bytes))
	for i := range n {
		put := &pb.PutRequest{Key: fmt.Appendf(nil, "%s/%03d", prefix, i), Value: value}
		if i%10 == 9 {
			r, err := pb.NewLeaseClient(m.conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 3600})
			if err != nil {
				return fmt.Errorf("grant a lease on %s: %w", m, err)
			}
			put.Lease = r.ID
		}
		if _, err := pb.NewKVClient(m.conn).Put(ctx, put); err != nil {
			return fmt.Errorf("put on %s: %w", m, err)
		}
	}
	return nil
}

// snapshots counts those that etcd's members sent and received.
func (c *Cluster) snapshots() (n int, err error) {
	for _, m := range c.Members {
		for _, line := range []string{`"msg":"sent database snapshot"`, `"msg":"received and saved database snapshot"`} {
			if m.Kind != Etcd {
				continue
			}
			count, err := m.logged(line)
			if err != nil {
				return 0, err
			}
			n += count
		}
	}
	return n, nil
}

// logged counts the lines of the member's log with a text in them.
func (m *Member) logged(text string) (int, error) {
	log, err := os.ReadFile(m.Log)
	if err != nil {
		return 0, fmt.Errorf("read the log of %s: %w", m, err)
	}
	return strings.Count(string(log), text), nil
}

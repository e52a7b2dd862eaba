package mixed

import (
	"context"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestDowngrade begins a downgrade and takes it back, while a member of each kind leads, asked of the other kind: all members
// lower their versions and raise them again, what they hand out says so, and one of ours that was away meanwhile is sent a state
// in the middle of it.
func TestDowngrade(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	for _, kinds := range [][]Kind{{Etcd, Holdfast, Etcd}, {Holdfast, Etcd, Holdfast}} {
		t.Run(fmt.Sprintf("%s leads", kinds[0]), func(t *testing.T) {
			ctx := t.Context()
			cluster := open(t, kinds, "--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true")
			if err := cluster.downAndUp(ctx); err != nil {
				t.Fatalf("%v\nlogs are kept in %s", err, keepLogs(t, cluster))
			}
			if err := cluster.Healthy(ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (c *Cluster) downAndUp(ctx context.Context) error {
	leader, other := c.Members[0], c.Members[1]
	if err := c.MoveLeader(ctx, leader); err != nil {
		return err
	}
	if err := c.atVersion(ctx, "3.7.0", &pb.DowngradeInfo{}); err != nil {
		return err
	}
	downgrade := func(m *Member, action pb.DowngradeRequest_DowngradeAction) error {
		r, err := pb.NewMaintenanceClient(m.conn).Downgrade(ctx, &pb.DowngradeRequest{Action: action, Version: "3.6"})
		if err != nil {
			return fmt.Errorf("%s of %s: %w", action, m, err)
		}
		if action == pb.DowngradeRequest_VALIDATE && r.Version != "3.7" {
			return fmt.Errorf("%s of %s answers that the cluster is at %s", action, m, r.Version)
		}
		return nil
	}
	for _, m := range c.Members {
		if err := downgrade(m, pb.DowngradeRequest_VALIDATE); err != nil {
			return err
		}
	}
	if err := downgrade(other, pb.DowngradeRequest_ENABLE); err != nil {
		return err
	}
	if err := c.atVersion(ctx, "3.6.0", &pb.DowngradeInfo{Enabled: true, TargetVersion: "3.6.0"}); err != nil {
		return err
	}
	if err := c.miss(ctx, leader.Kind, other.Kind, "snapshot"); err != nil {
		return err
	}
	if err := c.atVersion(ctx, "3.6.0", &pb.DowngradeInfo{Enabled: true, TargetVersion: "3.6.0"}); err != nil {
		return err
	}
	if err := downgrade(other, pb.DowngradeRequest_CANCEL); err != nil {
		return err
	}
	return c.atVersion(ctx, "3.7.0", &pb.DowngradeInfo{})
}

// atVersion waits until every member says that cluster and storage are at a version, and that a downgrade stands so.
func (c *Cluster) atVersion(ctx context.Context, version string, info *pb.DowngradeInfo) error {
	return c.await(ctx, "version "+version, func() error {
		for _, m := range c.Members {
			said, err := clientVersion(ctx, m)
			if err != nil {
				return err
			}
			status, err := m.status(ctx)
			if err != nil {
				return err
			}
			if !strings.Contains(said, fmt.Sprintf(`"etcdcluster":%q`, version)) || status.StorageVersion != version || text(status.DowngradeInfo) != text(info) {
				return fmt.Errorf("%s says %s, %v, %v", m, said, status.StorageVersion, status.DowngradeInfo)
			}
			snapshot, err := m.snapshotVersion(ctx)
			if err != nil || snapshot != version {
				return fmt.Errorf("a snapshot of %s is of version %s, %v", m, snapshot, err)
			}
		}
		return nil
	})
}

// snapshotVersion is what a snapshot says of itself.
func (m *Member) snapshotVersion(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewMaintenanceClient(m.conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return "", err
	}
	first, err := stream.Recv()
	return first.GetVersion(), err
}

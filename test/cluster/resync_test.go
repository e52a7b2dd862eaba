package cluster

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// linkRate is what a link of 1 Gb/s carries, in bytes per second.
const linkRate = 125_000_000

// Goal (E14): a member that was away comes level, by log where the log goes back far enough and else by snapshot, while the others
// serve; what it costs is measured on the wire. Method: a member is cut off while a part of the store is written anew; bytes from the
// others to it and the time until it has everything are recorded.
func TestE14Resync(t *testing.T) {
	t.Parallel()
	values, away := 200, 40 // a fifth changes meanwhile
	if long() {
		values, away = 4000, 400 // 64 MB, a tenth
	}
	for _, c := range []struct {
		way  string
		args []string
	}{
		{"log", []string{"--snapshot-count=100000", "--snapshot-catchup-entries=100000"}},
		{"snapshot", []string{"--snapshot-count=20", "--snapshot-catchup-entries=5"}},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			p := restless(t)
			p.args = c.args
			cluster := startCluster(t, p, 3, false)
			leader, err := cluster.leader()
			if err != nil {
				t.Fatal(err)
			}
			m := cluster.others(leader)[0]
			if err := leader.fill(t.Context(), 0, values); err != nil {
				t.Fatal(err)
			}
			if err := m.await(t.Context()); err != nil {
				t.Fatal(err)
			}
			var ways []way
			for _, other := range cluster.others(m) {
				ways = append(ways, way{m.name, other.name}, way{other.name, m.name})
			}
			if err := cluster.net.set(condition{cut: true}, ways...); err != nil {
				t.Fatal(err)
			}
			if err := leader.fill(t.Context(), 0, away); err != nil {
				t.Fatal(err)
			}
			time.Sleep(releaseWait)
			carried := func() (bytes int64) {
				for _, w := range ways {
					if w.to == m.name {
						bytes += cluster.net.links[w].carried.Load()
					}
				}
				return bytes
			}
			before := carried()
			if err := cluster.net.heal(true); err != nil {
				t.Fatal(err)
			}
			if err := cluster.net.set(condition{rate: linkRate}, ways...); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := m.awaitRevision(t.Context(), leader); err != nil {
				t.Fatalf("%v\n%s", err, cluster.logs(10))
			}
			t.Logf("%s by %s: level after %v; %d KB came, of %d KB written meanwhile and %d KB in all", p.name, c.way,
				time.Since(began).Round(time.Millisecond), (carried()-before)>>10, away*valueBytes>>10, values*valueBytes>>10)
			if _, err := cluster.settle(newHistory()); err != nil {
				t.Fatal(err)
			}
			if err := cluster.breached(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// releaseWait is more than Holdfast takes to release its log once there are enough entries.
const releaseWait = 2 * time.Second

// valueBytes is the size of the values that a store is filled with.
const valueBytes = 16 << 10

// fill puts keys from the first number to before the last.
func (m *member) fill(ctx context.Context, from, to int) error {
	value := bytes.Repeat([]byte("0123456789abcdef"), valueBytes/16)
	for n := from; n < to; n++ {
		// A write that was on its way while a member was cut off may have to wait for an election.
		attempt, cancel := context.WithTimeout(ctx, readyTimeout)
		_, err := m.kv().Put(attempt, &pb.PutRequest{Key: fmt.Appendf(nil, "r/%05d", n), Value: value})
		cancel()
		if err != nil {
			return fmt.Errorf("put %d: %w", n, err)
		}
	}
	return nil
}

// awaitRevision waits until m has what another member has now.
func (m *member) awaitRevision(ctx context.Context, other *member) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	want, err := other.kv().Range(ctx, &pb.RangeRequest{Key: []byte{0}, Serializable: true})
	if err != nil {
		return err
	}
	for {
		r, err := m.kv().Range(ctx, &pb.RangeRequest{Key: []byte{0}, Serializable: true})
		if err == nil && r.GetHeader().GetRevision() >= want.GetHeader().GetRevision() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is at revision %d, %s at %d: %w", m, r.GetHeader().GetRevision(), other, want.GetHeader().GetRevision(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

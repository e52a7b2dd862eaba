package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
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
	r := resync{values: 200, away: 40} // a fifth changes meanwhile
	programs := []program{restless(t)}
	if *measureFlag > 0 {
		r = resync{values: 3200, away: 320} // 50 MB, a tenth
		programs = []program{restlessHoldfast(t), etcdProgram(t)}
	} else {
		t.Parallel()
	}
	for _, by := range []string{"log", "snapshot"} {
		for _, p := range programs {
			t.Run(by+" "+p.name, func(t *testing.T) {
				p.args = []string{"--snapshot-count=100000", "--snapshot-catchup-entries=100000"}
				if by == "snapshot" {
					p.args = []string{"--snapshot-count=20", "--snapshot-catchup-entries=5"}
				}
				took, bytes := r.run(t, p)
				t.Logf("level after %v; %d KB came, of %d KB written meanwhile and %d KB in all",
					took.Round(time.Millisecond), bytes>>10, r.away*valueBytes>>10, r.values*valueBytes>>10)
				record(t, "resync", p, map[string]any{
					"by": by, "values": r.values, "away": r.away, "value_bytes": valueBytes, "link_bytes_per_s": linkRate,
				}, map[string]float64{"ms": milliseconds(took), "mb": float64(bytes) / 1e6})
			})
		}
	}
}

// resync is a store of so many values, of which some are written anew while a member is away.
type resync struct{ values, away int }

// run returns how long the member took to come level when it was back, and how many bytes came to it.
func (r resync) run(t *testing.T, p program) (took time.Duration, bytes int64) {
	t.Helper()
	c := startCluster(t, p, 3, false)
	leader, err := c.leader()
	if err != nil {
		t.Fatal(err)
	}
	m := c.others(leader)[0]
	if err := leader.fill(t.Context(), r.values); err != nil {
		t.Fatal(err)
	}
	if err := m.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ways []way
	for _, other := range c.others(m) {
		ways = append(ways, way{m.name, other.name}, way{other.name, m.name})
	}
	carried := func() (bytes int64) {
		for _, w := range ways {
			if w.to == m.name {
				bytes += c.net.links[w].carried.Load()
			}
		}
		return bytes
	}
	if err := c.net.set(condition{cut: true}, ways...); err != nil {
		t.Fatal(err)
	}
	if err := leader.fill(t.Context(), r.away); err != nil {
		t.Fatal(err)
	}
	time.Sleep(releaseWait)
	before := carried()
	if err := c.net.heal(true); err != nil {
		t.Fatal(err)
	}
	if err := c.net.set(condition{rate: linkRate}, ways...); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := m.awaitRevision(t.Context(), leader); err != nil {
		t.Fatalf("%v\n%s", err, c.logs(10))
	}
	took, bytes = time.Since(began), carried()-before
	if _, err := c.settle(newHistory()); err != nil {
		t.Fatal(err)
	}
	if err := c.breached(); err != nil {
		t.Fatal(err)
	}
	return took, bytes
}

// releaseWait is more than Holdfast takes to release its log once there are enough entries.
const releaseWait = 2 * time.Second

// valueBytes is the size of the values that a store is filled with.
const valueBytes = 16 << 10

// fill puts so many keys, with values that do not compress.
func (m *member) fill(ctx context.Context, count int) error {
	value, rng := make([]byte, valueBytes), rand.NewChaCha8([32]byte{})
	for n := range count {
		if _, err := rng.Read(value); err != nil {
			panic(err) // it never fails
		}
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

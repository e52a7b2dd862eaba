package cluster

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"
)

var e14Flag = flag.Int("e14.mb", 0, "size of the store in TestE14Resync, in MiB, for a record of both programs by snapshot alone; 1024 is the long form")

// linkRate is what a link of 1 Gb/s carries, in bytes per second.
const linkRate = 125_000_000

// Goal (E14): a member that was away comes level, by log where the log goes back far enough and else by snapshot, while the others
// serve; what it costs is measured on the wire and at the leader's clients. Method: a member is cut off while a part of the store is
// written anew; bytes from the others to it, the time until it has everything, and how long puts at the leader take before and
// meanwhile are recorded.
func TestE14Resync(t *testing.T) {
	r := resync{values: 200, away: 40} // a fifth changes meanwhile
	programs, ways := []program{restless(t)}, []string{"log", "snapshot"}
	switch {
	case *e14Flag > 0:
		r.values = *e14Flag << 20 / valueBytes
		r.away, ways = r.values/10, ways[1:]
		programs = []program{restlessHoldfast(t), etcdProgram(t)}
	case *measureFlag > 0:
		r = resync{values: 3200, away: 320} // 50 MB, a tenth
		programs = []program{restlessHoldfast(t), etcdProgram(t)}
	default:
		t.Parallel()
	}
	for _, by := range ways {
		for _, p := range programs {
			t.Run(by+" "+p.name, func(t *testing.T) {
				p.args = []string{"--snapshot-count=100000", "--snapshot-catchup-entries=100000"}
				if by == "snapshot" {
					p.args = []string{"--snapshot-count=20", "--snapshot-catchup-entries=5"}
				}
				took, bytes, puts := r.run(t, p)
				t.Logf("level after %v; %d KB came, of %d KB written meanwhile and %d KB in all; puts in ms %v",
					took.Round(time.Millisecond), bytes>>10, r.away*valueBytes>>10, r.values*valueBytes>>10, puts)
				values := map[string]float64{"ms": milliseconds(took), "mb": float64(bytes) / 1e6}
				maps.Copy(values, puts)
				record(t, "resync", p, map[string]any{
					"by": by, "values": r.values, "away": r.away, "value_bytes": valueBytes, "link_bytes_per_s": linkRate,
				}, values)
			})
		}
	}
}

// resync is a store of so many values, of which some are written anew while a member is away.
type resync struct{ values, away int }

// levelTimeout bounds the time until a member is level: a MiB each tenth of a second is little.
func (r resync) levelTimeout() time.Duration {
	return readyTimeout + time.Duration(r.values*valueBytes>>20)*time.Second/10
}

// run returns how long the member took to come level when it was back, how many bytes came to it, and how long puts took.
func (r resync) run(t *testing.T, p program) (took time.Duration, bytes int64, puts map[string]float64) {
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
	quiet := leader.putOn()
	time.Sleep(releaseWait)
	puts = map[string]float64{}
	if err := quiet.into(puts, "put_before"); err != nil {
		t.Fatal(err)
	}
	before := carried()
	if err := c.net.heal(true); err != nil {
		t.Fatal(err)
	}
	if err := c.net.set(condition{rate: linkRate}, ways...); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	meanwhile := leader.putOn()
	if err := m.awaitRevisionWithin(t.Context(), leader, r.levelTimeout()); err != nil {
		t.Fatalf("%v\n%s", err, c.logs(10))
	}
	took, bytes = time.Since(began), carried()-before
	if err := meanwhile.into(puts, "put_meanwhile"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.settle(newHistory()); err != nil {
		t.Fatal(err)
	}
	if err := c.breached(); err != nil {
		t.Fatal(err)
	}
	return took, bytes, puts
}

// putting is a client that puts one small key after the other.
type putting struct {
	stop   context.CancelFunc
	client sync.WaitGroup

	took []time.Duration // the client's own until it has ended
	err  error
}

// putPause is between two puts: enough of them for a percentile, and next to no load.
const putPause = 5 * time.Millisecond

func (m *member) putOn() *putting {
	ctx, cancel := context.WithCancel(context.Background())
	p := &putting{stop: cancel}
	p.client.Go(func() {
		for ctx.Err() == nil && p.err == nil {
			began := time.Now()
			attempt, enough := context.WithTimeout(context.Background(), readyTimeout)
			_, p.err = m.kv().Put(attempt, &pb.PutRequest{Key: []byte("z/meanwhile"), Value: []byte("v")})
			enough()
			p.took = append(p.took, time.Since(began))
			time.Sleep(putPause)
		}
	})
	return p
}

// into ends the client and puts the middle, the worst of a hundred and the worst of how long its puts took into values.
func (p *putting) into(values map[string]float64, name string) error {
	p.stop()
	p.client.Wait()
	slices.Sort(p.took)
	last := float64(len(p.took) - 1)
	for quantile, part := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
		values[name+"_"+quantile+"_ms"] = milliseconds(p.took[int(part*last)])
	}
	return p.err
}

// releaseWait is more than Holdfast takes to release its log once there are enough entries.
const releaseWait = 2 * time.Second

// valueBytes is the size of the values that a store is filled with.
const valueBytes = 16 << 10

// fillWriters is how many fill a large store at a time.
const fillWriters = 16

// fill puts so many keys, with values that do not compress.
func (m *member) fill(ctx context.Context, count int) error {
	if count < fillWriters*100 {
		return m.fillPart(ctx, 0, 1, count)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range fillWriters {
		g.Go(func() error { return m.fillPart(ctx, i, fillWriters, count) })
	}
	return g.Wait()
}

// fillPart puts every so many of count keys, from the first on.
func (m *member) fillPart(ctx context.Context, first, every, count int) error {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(first))
	value, rng := make([]byte, valueBytes), rand.NewChaCha8(seed)
	for n := first; n < count; n += every {
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
	return m.awaitRevisionWithin(ctx, other, readyTimeout)
}

func (m *member) awaitRevisionWithin(ctx context.Context, other *member, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
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

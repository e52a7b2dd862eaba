package cluster

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var measureFlag = flag.Int("measure", 0, "how often to kill and to stop the leader of each program, for a record; 0 does it once, for Holdfast alone")

// Goal: how long nobody can write when the leader is killed, and when it is stopped. Method: writers at all members, the leader ended
// again and again, without the test's network between the members' clients and their work; Holdfast and etcd in turns. The figures
// are recorded, not judged.
func TestFailoverGap(t *testing.T) {
	times, programs := *measureFlag, []program{chosen(t)}
	if times == 0 {
		times = 1
	} else {
		programs = []program{holdfastProgram(t), etcdProgram(t)}
	}
	gaps := map[string][]time.Duration{}
	var clusters []*cluster
	for _, p := range programs {
		clusters = append(clusters, startCluster(t, p, 3, false))
	}
	for range times {
		for _, c := range clusters {
			for _, way := range []string{"kill -9", "SIGTERM"} {
				gap, err := c.failover(way == "SIGTERM")
				if err != nil {
					t.Fatalf("%s: %v\n%s", way, err, c.logs(10))
				}
				name := c.program.name + ", " + way
				gaps[name] = append(gaps[name], gap)
			}
		}
	}
	for _, c := range clusters {
		if err := c.breached(); err != nil {
			t.Error(err)
		}
		for _, way := range []string{"kill -9", "SIGTERM"} {
			t.Log(c.program.name+", "+way, spread(gaps[c.program.name+", "+way]))
		}
	}
}

// failover ends the leader while everybody writes and returns the longest time without an acknowledged write.
func (c *cluster) failover(graceful bool) (time.Duration, error) {
	leader, err := c.leader()
	if err != nil {
		return 0, err
	}
	g := c.writeOn()
	time.Sleep(300 * time.Millisecond)
	if graceful {
		err = leader.stop()
	} else {
		err = leader.killed()
	}
	if err != nil {
		return 0, err
	}
	if _, err := c.leader(); err != nil {
		return 0, err
	}
	if err := c.awaitAll(); err != nil {
		return 0, err
	}
	time.Sleep(300 * time.Millisecond)
	gap := g.end()
	if err := leader.launch(); err != nil {
		return 0, err
	}
	return gap, c.awaitAll()
}

// gaps writes all the time, to each member, and knows the longest time in which no write was acknowledged.
type gaps struct {
	stop    context.CancelFunc
	writers sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	acks    []time.Time
	started time.Time
}

// writeTimeout is so short that a write to a member that cannot answer does not keep its writer from the next.
const writeTimeout = 300 * time.Millisecond

// writeOn starts writing. Each member has its own writers: what one cannot do another may.
func (c *cluster) writeOn() *gaps {
	ctx, cancel := context.WithCancel(context.Background())
	g := &gaps{stop: cancel, started: time.Now()}
	for _, m := range c.present() {
		for n := range 2 {
			g.writers.Go(func() { // ends with ctx
				for i := 0; ctx.Err() == nil; i++ {
					attempt, enough := context.WithTimeout(ctx, writeTimeout)
					_, err := m.kv().Put(attempt, &pb.PutRequest{Key: []byte("z/gap"), Value: fmt.Appendf(nil, "%s-%d-%d", m.name, n, i)})
					enough()
					if err == nil {
						g.mu.Lock()
						g.acks = append(g.acks, time.Now())
						g.mu.Unlock()
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
	}
	return g
}

// end stops writing and returns the longest gap.
func (g *gaps) end() (longest time.Duration) {
	g.stop()
	g.writers.Wait()
	slices.SortFunc(g.acks, time.Time.Compare)
	last := g.started
	for _, ack := range g.acks {
		longest, last = max(longest, ack.Sub(last)), ack
	}
	return longest
}

// spread writes out the median of some times, and between which half of them and all of them lie.
func spread(times []time.Duration) string {
	sorted := slices.Clone(times)
	slices.Sort(sorted)
	at := func(part float64) time.Duration {
		return sorted[int(part*float64(len(sorted)-1))].Round(time.Millisecond)
	}
	return fmt.Sprintf("%d times: median %v, half %v to %v, all %v to %v", len(sorted), at(0.5), at(0.25), at(0.75), at(0), at(1))
}

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
	var clusters []*cluster
	gaps := map[*cluster]map[string][]time.Duration{}
	for _, p := range programs {
		c := startCluster(t, p, 3, false)
		clusters, gaps[c] = append(clusters, c), map[string][]time.Duration{}
	}
	ends := []string{"kill", "term"}
	for range times {
		for _, c := range clusters {
			for _, end := range ends {
				gap, err := c.failover(end == "term")
				if err != nil {
					t.Fatalf("%s, %s: %v\n%s", c.program.name, end, err, c.logs(10))
				}
				gaps[c][end] = append(gaps[c][end], gap)
			}
		}
	}
	for _, c := range clusters {
		if err := c.breached(); err != nil {
			t.Error(err)
		}
		for _, end := range ends {
			values := spread(gaps[c][end])
			t.Logf("%s, %s: gap in writes in ms %v", c.program.name, end, values)
			record(t, "failover", c.program, map[string]any{
				"members": 3, "end": end, "times": times, "heartbeat_ms": milliseconds(heartbeat), "election_ms": milliseconds(election),
			}, values)
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

// spread is the median of some times, and between which the middle half and all of them lie, in milliseconds.
func spread(times []time.Duration) map[string]float64 {
	sorted := slices.Clone(times)
	slices.Sort(sorted)
	values := map[string]float64{}
	for name, part := range map[string]float64{"min": 0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "max": 1} {
		values[name] = milliseconds(sorted[int(part*float64(len(sorted)-1))])
	}
	return values
}

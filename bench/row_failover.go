package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"holdfast/test/run"
)

const (
	failovers = 20 // of each kind
	// failoverEvery is the pause between two writes to one member, failoverWindow how long is looked at most at what becomes of them
	// after the leader has ended, and failoverSettle how long a complete cluster is left alone before that.
	failoverEvery  = 5 * time.Millisecond
	failoverWindow = 4 * time.Second
	failoverSettle = 600 * time.Millisecond
	// No longer is looked when failoverLeast has passed and writes go on, without a pause of failoverPause, for failoverCalm: what an election
	// still had to spoil, another one after it, it does within that.
	failoverLeast, failoverCalm, failoverPause = 1500 * time.Millisecond, time.Second, 100 * time.Millisecond
)

// failover ends the leader of three members again and again while clients write to the other two.
func failover(ctx context.Context, t *task) error {
	times := t.n(failovers, 1)
	t.record.Params["members"], t.record.Params["times"], t.record.Params["write_every_ms"] = 3, times, ms(failoverEvery)
	m, err := t.start(ctx, setup{members: 3})
	if err != nil {
		return err
	}
	defer m.kill()
	c, err := m.dial(len(m.servers))
	if err != nil {
		return err
	}
	defer c.close()
	trio := &trio{task: t, servers: m.servers, conns: c.conns}
	for _, way := range []struct {
		name   string
		signal syscall.Signal
	}{{"kill", syscall.SIGKILL}, {"term", syscall.SIGTERM}} {
		var gaps []float64
		for i := range times {
			t.status("%s %d of %d", way.name, i+1, times)
			gap, err := trio.endLeader(ctx, way.signal)
			if err != nil {
				return fmt.Errorf("%s %d: %w", way.name, i+1, err)
			}
			gaps = append(gaps, gap.Seconds()*1e3)
		}
		t.record.Series[way.name+"_gap_ms"] = slices.Clone(gaps)
		slices.Sort(gaps)
		t.record.Values[way.name+"_gap_p50_ms"] = gaps[len(gaps)/2]
		t.record.Values[way.name+"_gap_max_ms"] = gaps[len(gaps)-1]
	}
	return nil
}

// trio is a cluster of three, with a connection to each.
type trio struct {
	*task
	servers []*run.Server
	conns   []*grpc.ClientConn
}

// endLeader ends the leader and returns the longest time after that in which no write was acknowledged. Then the cluster is
// complete again.
func (c *trio) endLeader(ctx context.Context, by syscall.Signal) (time.Duration, error) {
	leader, err := c.awaitLeader(ctx)
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, c.span(failoverSettle, measureShort)); err != nil {
		return 0, err
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	var writers sync.WaitGroup
	var acks acknowledged
	for i, conn := range c.conns {
		if i != leader {
			writers.Go(func() { acks.write(writing, conn, fmt.Sprint("failover", i)) })
		}
	}
	if err := pause(ctx, c.span(failoverSettle, measureShort)/2); err != nil {
		return 0, err
	}
	began := time.Now()
	c.servers[leader].Signal(by)
	if err := acks.awaitCalm(ctx, began, c.span(failoverWindow, time.Second/2)); err != nil {
		return 0, err
	}
	stop()
	writers.Wait()
	if by != syscall.SIGKILL {
		<-c.servers[leader].Ended()
	}
	c.servers[leader].Kill() // waits for what has been killed
	gap, err := acks.longestGap(began)
	return gap, errors.Join(err, c.servers[leader].Restart(ctx))
}

// awaitLeader waits until all members name the same leader and returns its place.
func (c *trio) awaitLeader(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if leader := c.leader(ctx); leader >= 0 {
			return leader, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return 0, fmt.Errorf("the members do not agree on a leader: %w", err)
		}
		for _, conn := range c.conns {
			conn.ResetConnectBackoff()
		}
	}
}

func (c *trio) leader(ctx context.Context) int {
	at, id := -1, uint64(0)
	for i, conn := range c.conns {
		attempt, stop := context.WithTimeout(ctx, time.Second)
		s, err := pb.NewMaintenanceClient(conn).Status(attempt, &pb.StatusRequest{})
		stop()
		if err != nil || s.Leader == 0 || id != 0 && s.Leader != id {
			return -1
		}
		id = s.Leader
		if s.Header.MemberId == id {
			at = i
		}
	}
	return at
}

// acknowledged are the times at which writes were acknowledged.
type acknowledged struct {
	mu   sync.Mutex // guards the fields below
	at   []time.Time
	calm time.Time // since then there was no pause of failoverPause
}

// awaitCalm returns when writes go on as before, or have been looked at since began for as long as window.
func (a *acknowledged) awaitCalm(ctx context.Context, began time.Time, window time.Duration) error {
	for time.Since(began) < window {
		if err := pause(ctx, failoverPause/2); err != nil {
			return err
		}
		if time.Since(began) > failoverLeast && a.calmFor(failoverCalm) {
			return nil
		}
	}
	return nil
}

func (a *acknowledged) calmFor(d time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.at)
	return n > 0 && time.Since(a.at[n-1]) < failoverPause && time.Since(a.calm) > d
}

func (a *acknowledged) add(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.at); n == 0 || at.Sub(a.at[n-1]) > failoverPause {
		a.calm = at
	}
	a.at = append(a.at, at)
}

// write begins a write every failoverEvery, whatever becomes of the ones before, until ctx ends.
func (a *acknowledged) write(ctx context.Context, conn *grpc.ClientConn, key string) {
	tick := time.NewTicker(failoverEvery)
	defer tick.Stop()
	var writes sync.WaitGroup
	defer writes.Wait()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		writes.Go(func() {
			if _, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v")}); err == nil {
				a.add(time.Now())
			}
		})
	}
}

// longestGap is the longest time without an acknowledgement that ended after began.
func (a *acknowledged) longestGap(began time.Time) (longest time.Duration, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.at, time.Time.Compare)
	for i := 1; i < len(a.at); i++ {
		if a.at[i].After(began) {
			longest = max(longest, a.at[i].Sub(a.at[i-1]))
		}
	}
	if n := len(a.at); n == 0 || a.at[n-1].Before(began) {
		return 0, errors.New("no write was acknowledged after the leader had ended")
	}
	return longest, nil
}

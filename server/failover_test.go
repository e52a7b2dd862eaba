package server

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// TestFailover kills the leader of a quiet cluster again and again: its machine refuses connections, so the others need not wait
// for raft's timeout, which is a second at least.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		for round := range 10 {
			time.Sleep(time.Second)
			down := c.leader()
			other := c.members[c.follower()]
			c.kill(down)
			gap := c.timeUntil("the others take writes", func() bool { return other.writable(t) })
			if gap > 5*c.members[0].cfg.Heartbeat {
				t.Errorf("round %d: %v without writes", round, gap)
			}
			c.start(down)
			c.awaitReady()
		}
		c.awaitEqual()
	})
}

// TestHurryElection starts clusters that hurry and clusters that do not: the first have a leader before an election timeout has
// passed, the others never, and a member that returns to a cluster with a leader disturbs nobody. Members that stand for election at
// the same moment share the votes and try again a timeout later, some one cluster in fifty: five in a row never do.
func TestHurryElection(t *testing.T) {
	for _, hurry := range []bool{true, false} {
		clusters := 1
		if hurry {
			clusters = 5
		}
		soonest := time.Duration(math.MaxInt64)
		var timeout, heartbeat time.Duration
		for range clusters {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.HurryElection = hurry })
				for i := range 3 {
					c.start(i)
				}
				soonest = min(soonest, c.timeUntil("a leader is known", func() bool { return c.members[0].Leader() != 0 }))
				timeout, heartbeat = c.members[0].cfg.electionTimeout(), c.members[0].cfg.Heartbeat
				c.awaitReady()
				c.returnUndisturbed()
			})
			if hurry && soonest <= timeout+3*heartbeat {
				break
			}
		}
		if hurry && soonest > timeout+3*heartbeat || !hurry && soonest < timeout {
			t.Errorf("hurrying: %v, the first leader of %d clusters came up after %v at the soonest", hurry, clusters, soonest)
		}
	}
}

// returnUndisturbed kills a follower and starts it again: the term stays.
func (c *cluster) returnUndisturbed() {
	c.t.Helper()
	term, i := c.members[c.leader()].Header().RaftTerm, c.follower()
	c.kill(i)
	time.Sleep(time.Second)
	c.start(i)
	c.awaitReady()
	time.Sleep(time.Second)
	if now := c.members[c.leader()].Header().RaftTerm; now != term {
		c.t.Errorf("a member that returned made term %d of %d", now, term)
	}
}

// TestSilenceIsNoFailure cuts the leader off: nobody refuses a connection, and so raft's timeout passes before there is
// another leader.
func TestSilenceIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		time.Sleep(time.Second)
		cut := c.leader()
		old, other := c.members[cut], c.members[c.follower()]
		c.net.silence(old.address, true)
		gap := c.timeUntil("another leads", func() bool { return other.Leader() != old.ID() && other.Leader() != 0 })
		if timeout := other.cfg.electionTimeout(); gap < timeout-other.cfg.Heartbeat {
			t.Errorf("another led after %v of silence, before %v were over", gap, timeout)
		}
		c.net.silence(old.address, false)
		c.leader()
		other.put("k", "v")
		c.awaitEqual()
	})
}

// TestStopHandsOver stops the leader in good order: another leads at once, and the writes that come meanwhile find it.
func TestStopHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		for range 3 {
			time.Sleep(time.Second)
			leader := c.leader()
			old, other := c.members[leader], c.members[c.follower()]
			id, term := old.ID(), other.Header().RaftTerm
			c.stop(leader)
			led := func() bool { return other.Leader() != id && other.Leader() != 0 } // it may hear last of who follows
			if gap := c.timeUntil("another leads", led); gap > 10*time.Millisecond {
				t.Errorf("%v without a leader", gap)
			}
			if gap := c.timeUntil("the others take writes", func() bool { return other.writable(t) }); gap > 10*time.Millisecond {
				t.Errorf("%v without writes", gap)
			}
			if now := other.Header().RaftTerm; now != term+1 {
				t.Errorf("term %d after %d", now, term)
			}
			c.start(leader)
			c.awaitReady()
		}
	})
}

// timeUntil measures how long it takes until something holds, in the time of the bubble.
func (c *cluster) timeUntil(what string, holds func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	c.eventually(what, holds)
	return time.Since(began)
}

// writable tells whether a member takes a write at once.
func (m *clusterMember) writable(t *testing.T) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := m.tryPut(ctx, "k", "v", 0)
	return err == nil
}

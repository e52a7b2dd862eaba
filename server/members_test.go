package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/membership"
)

// join has the member at via add one more, and describes it. It does not run yet.
func (c *cluster) join(via int, learner bool) (int, error) {
	i := len(c.members)
	urls := []string{"http://" + clusterAddress(i)}
	added, peers, err := c.members[via].MemberAdd(patient(c.t), urls, learner)
	if err != nil {
		return 0, err
	}
	if added.IsLearner != learner || len(peers) < 2 {
		c.t.Errorf("added %+v to %+v", added, peers)
	}
	m := &clusterMember{cfg: c.members[via].cfg, fs: vfs.NewCrashableMem(), address: clusterAddress(i)}
	m.cfg.Name, m.cfg.Founders, m.cfg.PeerURLs = fmt.Sprint("m", i), nil, urls
	m.cfg.ClientURLs = []string{fmt.Sprintf("http://m%d:2379", i)}
	m.cfg.Dial = c.net.dialFrom(m.address)
	m.cfg.Joined = &Joined{ClusterID: c.members[via].ClusterID(), ID: added.ID, Peers: peers}
	c.members = append(c.members, m)
	return i, nil
}

// patient is a context for changes of the membership, which have no bound of their own.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// mustJoin is join, and the new member runs and is ready.
func (c *cluster) mustJoin(via int, learner bool) int {
	c.t.Helper()
	i, err := c.join(via, learner)
	if err != nil {
		c.t.Fatal(err)
	}
	c.start(i)
	c.awaitReady()
	return i
}

// awaitHealthy waits until the strict checks count on everybody who runs.
func (c *cluster) awaitHealthy() { time.Sleep(healthyFor + time.Second) }

// wants checks that an error is the one that etcd would give.
func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestLearnerGrowsUp takes a member from its addition as a learner to its vote. Whoever is asked passes the question on to
// the leader, who alone knows whether the learner is ready.
func TestLearnerGrowsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		for i := range 50 {
			c.members[0].put(fmt.Sprint("k", i), "v")
		}
		c.awaitHealthy()
		leader, follower := c.leader(), c.follower()
		at, err := c.join(follower, true)
		if err != nil {
			t.Fatal(err)
		}
		learner := c.members[at].cfg.Joined.ID
		for _, via := range []int{leader, follower} {
			m := c.members[via]
			_, err := m.MemberPromote(WithToken(patient(t), shownToken), learner)
			wants(t, "promote a learner that does not run", err, ErrLearnerNotReady)
			_, err = m.MemberPromote(WithToken(patient(t), shownToken), 77)
			wants(t, "promote nobody", err, membership.ErrNotFound)
			_, err = m.MemberPromote(WithToken(patient(t), shownToken), m.ID())
			wants(t, "promote a voter", err, membership.ErrNotLearner)
			_, _, err = m.MemberAdd(patient(t), []string{"http://elsewhere:1"}, true)
			wants(t, "add a second learner", err, membership.ErrTooManyLearners)
			_, _, err = m.MemberAdd(patient(t), []string{"http://elsewhere:1", "http://" + clusterAddress(at)}, true)
			wants(t, "add a taken address", err, membership.ErrPeerURLExists)
			_, err = m.MemberUpdate(patient(t), m.ID(), []string{"http://" + clusterAddress(at)})
			wants(t, "move to a taken address", err, membership.ErrPeerURLExists)
		}
		wants(t, "let a learner lead", c.members[leader].MoveLeader(t.Context(), learner), ErrBadLeaderTransferee)

		c.start(at)
		c.awaitReady()
		if !c.members[at].IsLearner() || !c.members[at].Status().IsLearner {
			t.Error("the new member is no learner")
		}
		c.eventually("the learner is promoted", func() bool {
			_, err = c.members[follower].MemberPromote(WithToken(patient(t), shownToken), learner)
			return !errors.Is(err, ErrLearnerNotReady)
		})
		wants(t, "promote", err, nil)
		c.eventually("it knows that it votes", func() bool { return !c.members[at].IsLearner() })
		_, err = c.members[follower].MemberPromote(WithToken(patient(t), shownToken), learner)
		wants(t, "promote again", err, membership.ErrNotLearner)
		c.members[at].put("k0", "w")
		c.awaitEqual()

		// Its vote counts: with two of four down nothing is committed, with one down all goes on.
		c.stop(follower)
		c.members[at].put("k1", "w")
		if members, err := c.members[at].Members(t.Context(), true); err != nil || len(members) != 4 {
			t.Errorf("members %+v, %v", members, err)
		}
	})
}

// TestStrictChecks: while one of three is down, a change that needs it is refused, unless the check is off; one that removes
// it is not.
func TestStrictChecks(t *testing.T) {
	for _, strict := range []bool{true, false} {
		t.Run(fmt.Sprint("strict=", strict), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startCluster(t, 3, func(_ int, cfg *Config) { cfg.StrictReconfigCheck = strict })
				c.awaitHealthy()
				down := c.follower()
				gone := c.members[down].ID()
				c.stop(down)
				c.awaitHealthy()
				asked := c.members[c.leader()]
				if !strict {
					// The fourth is added, and of four the two that run are too few, until the third comes back.
					if _, _, err := asked.MemberAdd(patient(t), []string{"http://nobody:1"}, false); err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					if _, err := asked.tryPut(ctx, "k", "v", 0); err == nil {
						t.Error("two of four have committed")
					}
					c.start(down)
					c.awaitReady()
					asked.put("k", "w")
					return
				}
				_, _, err := asked.MemberAdd(patient(t), []string{"http://nobody:1"}, false)
				wants(t, "add", err, ErrUnhealthy)
				_, _, err = asked.MemberAdd(patient(t), []string{"http://nobody:1"}, true)
				wants(t, "add a learner", err, ErrUnhealthy)
				_, err = asked.MemberRemove(patient(t), asked.ID())
				wants(t, "remove one that runs", err, ErrUnhealthy)
				_, err = asked.MemberRemove(patient(t), gone)
				wants(t, "remove the one that is down", err, nil)
				at := c.mustJoin(c.leader(), false)
				c.members[at].put("k", "v")
				c.eventually("the new member's name is known", func() bool {
					m, _ := asked.cluster.Member(c.members[at].ID())
					return m.Name != ""
				})
				_, _, err = asked.MemberAdd(patient(t), []string{"http://nobody:1"}, false)
				wants(t, "add one more right away", err, ErrUnhealthy)
				c.awaitHealthy()
				_, _, err = asked.MemberAdd(patient(t), []string{"http://nobody:1"}, false)
				wants(t, "add one more", err, nil)
				_, _, err = asked.MemberAdd(patient(t), []string{"http://nobody:2"}, false)
				wants(t, "add yet another", err, nil)
				_, _, err = asked.MemberAdd(patient(t), []string{"http://nobody:3"}, false)
				wants(t, "add a sixth where three have started", err, ErrNotEnoughStarted)
				_, err = asked.MemberRemove(patient(t), asked.ID())
				wants(t, "remove one of three that have started", err, ErrNotEnoughStarted)
				c.awaitEqual()
			})
		})
	}
}

// TestMoveLeader hands the leadership around, and refuses to where it cannot go.
func TestMoveLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		for range 4 {
			from, to := c.leader(), c.follower()
			wants(t, "ask a follower", c.members[to].MoveLeader(t.Context(), c.members[from].ID()), ErrNotLeader)
			wants(t, "nobody", c.members[from].MoveLeader(t.Context(), 77), ErrBadLeaderTransferee)
			wants(t, "to itself", c.members[from].MoveLeader(t.Context(), c.members[from].ID()), nil)
			wants(t, "move", c.members[from].MoveLeader(t.Context(), c.members[to].ID()), nil)
			if got := c.leader(); got != to {
				t.Errorf("m%d leads, m%d was to", got, to)
			}
			c.members[from].put("k", "v")
		}
		from, down := c.leader(), c.follower()
		id := c.members[down].ID()
		c.stop(down)
		wants(t, "to one that is down", c.members[from].MoveLeader(t.Context(), id), ErrLeaderTransferTimeout)
		c.members[from].put("k", "w")
		if got := c.leader(); got != from {
			t.Errorf("m%d leads, though there was nobody to take over from m%d", got, from)
		}
	})
}

// TestNewAddress moves a member to another address: it is found there once the cluster has been told.
func TestNewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		at := c.follower()
		id := c.members[at].ID()
		c.stop(at)
		asked := c.members[c.leader()]
		members, err := asked.MemberUpdate(patient(t), id, []string{"http://moved:2380"})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			if (m.PeerURLs[0] == "http://moved:2380") != (m.ID == id) || m.Name == "" || m.IsLearner {
				t.Errorf("after the update: %+v", m)
			}
		}
		asked.put("k", "v")
		c.members[at].address = "moved:2380"
		c.members[at].cfg.Dial = c.net.dialFrom("moved:2380")
		c.members[at].cfg.PeerURLs = []string{"http://moved:2380"}
		c.start(at)
		c.awaitReady()
		if got := c.members[at].get("k"); got != "v" {
			t.Errorf("the member that moved reads %q", got)
		}
		c.awaitEqual()
	})
}

// TestClusterVersion: a cluster whose members are all there goes to their version at once, another stays at the oldest until
// they are.
func TestClusterVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		c.eventually("the version is known everywhere", func() bool {
			for _, m := range c.members {
				if m.ClusterVersion() != etcdStorage || m.Status().StorageVersion != etcdStorage {
					return false
				}
			}
			return true
		})
	})
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.start(0)
		c.start(2)
		c.awaitReady()
		time.Sleep(30 * time.Second)
		for _, m := range c.running() {
			if v, stored := m.ClusterVersion(), m.Status().StorageVersion; v != "3.0.0" || stored != "3.5.0" {
				t.Errorf("with a member missing the cluster runs at %q, %q is stored", v, stored)
			}
		}
		c.start(1)
		c.awaitReady()
		began := time.Now()
		c.eventually("the version rises", func() bool { return c.members[1].ClusterVersion() == etcdStorage })
		if took := time.Since(began); took > 2*versionInterval {
			t.Errorf("it took %v", took)
		}
	})
}

// TestVersionTooHigh: a member ends when the cluster goes to a version it does not speak, and does not start again.
func TestVersionTooHigh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 1) // of several, some may not hear of it before the others have ended
		m := c.members[0]
		m.wantRunError = true
		// The leader proposes its own version first. Applied together with the next one it would be the last that is looked at.
		c.eventually("the version is known", func() bool { return m.ClusterVersion() == etcdStorage })
		if _, err := m.proposeCold(t.Context(), versionRequest("3.9.0")); err == nil {
			t.Fatal("a member says that it speaks 3.9")
		}
		<-m.Stopped()
		c.stop(0)
		m.cfg.FS = m.fs
		s, err := Open(m.cfg)
		if err == nil {
			err = errors.Join(s.Run(t.Context()), s.Close())
		}
		wants(t, "start again", err, errVersionTooLow)
	})
}

// answersAtBest takes the answer of a member that was asked to remove itself. Unless it leads, it may be told by the others
// that it is none of them any more before it hears why, as in etcd.
func answersAtBest(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, ErrStopped) {
		t.Errorf("%s: %v", what, err)
	}
}

// TestRemoveItself asks each kind of member for its own removal: it ends, and the others go on.
func TestRemoveItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		c.awaitHealthy()
		learner := c.mustJoin(0, true)
		_, err := c.members[learner].MemberRemove(patient(t), c.members[learner].ID())
		answersAtBest(t, "learner", err)
		c.expectRemoved(learner)
		leader := c.leader()
		members, err := c.members[leader].MemberRemove(patient(t), c.members[leader].ID())
		if err != nil || len(members) != 2 {
			t.Errorf("leader: %+v, %v", members, err)
		}
		c.expectRemoved(leader)
		c.members[c.leader()].put("k", "v")
		c.awaitEqual()
		follower := c.follower()
		_, err = c.members[follower].MemberRemove(patient(t), c.members[follower].ID())
		answersAtBest(t, "follower", err)
		c.expectRemoved(follower)
		c.members[c.leader()].put("k", "w")
		last := c.members[c.leader()]
		_, err = last.MemberRemove(patient(t), last.ID())
		wants(t, "the last one", err, ErrNotEnoughStarted)
	})
}

// TestTurnOver replaces every member of a cluster by another, one after the other, while clients write: as learner first,
// then with a vote, then the oldest goes. Nothing acknowledged is lost on the way.
func TestTurnOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		written := 0
		write := func() {
			for range 20 {
				c.members[c.leader()].put(fmt.Sprint("k", written), "v")
				written++
			}
		}
		for oldest := range 3 {
			write()
			c.awaitHealthy()
			at := c.mustJoin(c.follower(), true)
			write()
			c.eventually("the learner is promoted", func() bool {
				_, err := c.members[c.follower()].MemberPromote(WithToken(patient(t), shownToken), c.members[at].ID())
				if err != nil && !errors.Is(err, ErrLearnerNotReady) {
					t.Fatal(err)
				}
				return err == nil
			})
			write()
			c.awaitHealthy()
			if _, err := c.members[at].MemberRemove(patient(t), c.members[oldest].ID()); err != nil {
				t.Fatal(err)
			}
			c.expectRemoved(oldest)
			write()
		}
		c.awaitEqual()
		for _, m := range c.running() {
			for i := range written {
				if got := m.get(fmt.Sprint("k", i)); got != "v" {
					t.Fatalf("%s reads %q of k%d", m.cfg.Name, got, i)
				}
			}
			members, err := m.Members(t.Context(), true)
			if err != nil || len(members) != 3 || len(m.cluster.RemovedMembers()) != 3 {
				t.Errorf("%s knows %+v, %v", m.cfg.Name, members, err)
			}
		}
	})
}

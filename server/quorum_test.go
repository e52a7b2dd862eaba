package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
)

// TestWithoutQuorum leaves one member of three and asks it everything, one method after the other, as long as there is no
// leader. Each is answered as etcd answers it: at once from what the member has, or when a request's time is over, in words that
// say how far it came. When the others return, all is as before.
func TestWithoutQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		at := c.leader()
		m, a, b := c.members[at], (at+1)%3, (at+2)%3
		m.put("k", "v")
		one, err := m.LeaseGrant(t.Context(), kv.LeaseGrantRequest{TTL: 600})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		c.awaitEqual()
		before := m.Header()
		c.kill(a)
		c.kill(b)

		timeout := m.cfg.requestTimeout()
		began := time.Now()
		if _, err := m.tryPut(t.Context(), "late", "v", 0); !errors.Is(err, ErrTimeout) || time.Since(began).Round(time.Second) != timeout {
			t.Errorf("a put that reached the log ended after %v: %v", time.Since(began), err)
		}
		for _, q := range []struct {
			what string
			ask  func(context.Context) error
			want error
			took time.Duration
		}{
			{"put", func(ctx context.Context) error { _, err := m.tryPut(ctx, "k", "w", 0); return err }, context.DeadlineExceeded, timeout},
			{"get", func(ctx context.Context) error {
				_, err := m.Range(ctx, &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}})
				return err
			}, ErrTimeout, timeout},
			{"serializable get", func(ctx context.Context) error {
				_, err := m.Range(ctx, &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}, Serializable: true})
				return err
			}, nil, 0},
			{"compact", func(ctx context.Context) error { _, err := m.Compact(ctx, kv.CompactRequest{Revision: 2}); return err }, context.DeadlineExceeded, timeout},
			{"grant", func(ctx context.Context) error {
				_, err := m.LeaseGrant(ctx, kv.LeaseGrantRequest{TTL: 60})
				return err
			}, context.DeadlineExceeded, timeout},
			{"revoke", func(ctx context.Context) error { return m.LeaseRevoke(ctx, one.ID) }, context.DeadlineExceeded, timeout},
			{"leases", func(context.Context) error {
				if ids := m.leaseIDs(); len(ids) != 1 || ids[0] != one.ID {
					return lease.ErrNotFound
				}
				return nil
			}, nil, 0},
			{"alarms", func(ctx context.Context) error { _, err := m.Alarm(ctx, AlarmGet, membership.Alarm{}); return err }, context.DeadlineExceeded, timeout},
			{"members", func(ctx context.Context) error { _, err := m.Members(ctx, true); return err }, ErrTimeout, timeout},
			{"serializable members", func(ctx context.Context) error { _, err := m.Members(ctx, false); return err }, nil, 0},
			{"member add", func(ctx context.Context) error {
				_, _, err := m.MemberAdd(ctx, []string{"http://m9:2380"}, false)
				return err
			}, ErrUnhealthy, 0},
			{"move leader", func(ctx context.Context) error { return m.MoveLeader(ctx, 1) }, ErrNotLeader, 0},
			{"hash", func(ctx context.Context) error { _, err := m.HashKV(ctx, 0); return err }, nil, 0},
			{"defragment", func(ctx context.Context) error { return m.Defragment(ctx) }, nil, 0},
		} {
			began := time.Now()
			err := q.ask(t.Context())
			if took := time.Since(began).Round(time.Second); !errors.Is(err, q.want) || took != q.took {
				t.Errorf("%s: %v after %v, want %v after %v", q.what, err, took, q.want, q.took)
			}
		}
		if s := m.Status(); s.Leader != 0 || len(s.Errors) != 1 || s.Errors[0] != "etcdserver: no leader" {
			t.Errorf("status %+v", s)
		}
		if now := m.Header(); now.Revision != before.Revision {
			t.Errorf("revision %d without quorum, was %d", now.Revision, before.Revision)
		}

		c.start(a)
		c.start(b)
		c.awaitReady()
		c.leader()
		if got := m.get("k"); got != "v" {
			t.Errorf("k is %q: a write that was refused has come to be", got)
		}
		if ids := m.leaseIDs(); len(ids) != 1 {
			t.Errorf("leases %v", ids)
		}
		for _, m := range c.members {
			m.put(m.cfg.Name, "v")
		}
		c.awaitEqual()
	})
}

// TestTimeoutReason: a request that was not answered is told what this member knows of the leader, in etcd's distinctions.
func TestTimeoutReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		follower := c.members[c.follower()]
		leader := c.members[c.leader()]
		time.Sleep(10 * time.Second)
		if err := follower.timeoutReason(time.Now()); err != ErrTimeout {
			t.Errorf("with everybody there: %v", err)
		}
		electedAt := time.Now()
		leader.leaderElected.Store(&electedAt)
		if err := leader.timeoutReason(electedAt.Add(-time.Second)); err != ErrTimeoutLeaderFail {
			t.Errorf("begun shortly before the leader came up: %v", err)
		}
		long := time.Time{}.Add(time.Hour)
		leader.leaderElected.Store(&long)
		if err := leader.timeoutReason(time.Now().Add(-time.Hour)); err != ErrTimeoutConnectionLost {
			t.Errorf("begun before the others were connected, on the leader: %v", err)
		}
		follower.leaderElected.Store(&long)
		if err := follower.timeoutReason(time.Now().Add(-time.Hour)); err != ErrTimeoutConnectionLost {
			t.Errorf("begun before the leader was connected: %v", err)
		}
	})
}

// TestWritesFindTheNextLeader kills the leader and writes at once: a write that found no leader is carried out by the next one, without
// a word to the client.
func TestWritesFindTheNextLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		time.Sleep(time.Second)
		m, old := c.members[c.follower()], c.leader()
		gone := c.members[old].ID()
		c.kill(old)
		c.eventually("the followers know", func() bool { return m.Leader() != gone })
		m.put("k", "v")
		if got := m.get("k"); got != "v" {
			t.Errorf("k is %q", got)
		}
	})
}

// TestLostWithTheLeader has writes and a change of the membership on their way to a leader that dies without having got them. Nobody
// can tell their callers what becomes of them; that is said when another leads, not when the time of a request is over. What the old
// leader did commit is answered as ever.
func TestLostWithTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		time.Sleep(time.Second)
		m, old := c.members[c.follower()], c.leader()
		c.net.silence(c.members[old].address, true)
		type answer struct {
			err  error
			took time.Duration
		}
		answers := make(chan answer, 3)
		began := time.Now()
		for i := range 2 {
			go func() {
				_, err := m.tryPut(t.Context(), fmt.Sprint("lost/", i), "v", 0)
				answers <- answer{err, time.Since(began)}
			}()
		}
		go func() {
			_, err := m.MemberUpdate(t.Context(), m.ID(), []string{"http://" + m.address})
			answers <- answer{err, time.Since(began)}
		}()
		time.Sleep(m.cfg.Heartbeat)
		c.net.silence(c.members[old].address, false)
		c.kill(old)
		for range 3 {
			if a := <-answers; !errors.Is(a.err, ErrTimeoutLeaderFail) || a.took > m.cfg.electionTimeout() {
				t.Errorf("after %v: %v", a.took, a.err)
			}
		}
		m.put("k", "v")
		for i := range 2 {
			if got := m.get(fmt.Sprint("lost/", i)); got != "" {
				t.Errorf("lost/%d is %q", i, got)
			}
		}
	})
}

// TestSilentLeaderAnswersLate: requests to a leader that only cannot be heard are not given up before their time, for they may have got
// there.
func TestSilentLeaderAnswersLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		time.Sleep(time.Second)
		m, old := c.members[c.follower()], c.leader()
		c.net.silence(c.members[old].address, true)
		began := time.Now()
		if _, err := m.tryPut(t.Context(), "k", "v", 0); err == nil || time.Since(began) < m.cfg.requestTimeout() {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		c.net.silence(c.members[old].address, false)
		c.leader()
	})
}

// TestPublishesWhenThereIsAQuorum starts one of three alone for a minute, while nobody knows the names of the others, then a second:
// both become ready. The third, which can reach nobody, keeps them from nothing, and becomes ready when it can.
func TestPublishesWhenThereIsAQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.start(0)
		time.Sleep(time.Minute)
		select {
		case <-c.members[0].Ready():
			t.Fatal("ready without a quorum")
		default:
		}
		c.start(1)
		c.awaitReady()
		c.members[0].put("k", "v")
		if got := c.members[1].get("k"); got != "v" {
			t.Errorf("k is %q", got)
		}
		c.net.silence(c.members[2].address, true)
		c.start(2)
		time.Sleep(time.Minute)
		c.members[1].put("k", "w")
		c.net.silence(c.members[2].address, false)
		c.awaitReady()
		c.awaitEqual()
	})
}

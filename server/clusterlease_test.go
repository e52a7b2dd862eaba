package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/lease"
)

// leaseHandler stands for package api on the peer URLs: what it answers about leases is tested there.
func leaseHandler(s *Server) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, m proto.Message, err error) []byte {
		switch {
		case errors.Is(err, lease.ErrNotFound):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			body, _ := proto.Marshal(m)
			return body
		}
		return nil
	}
	mux.HandleFunc(PathLeases, func(w http.ResponseWriter, r *http.Request) {
		var q pb.LeaseKeepAliveRequest
		body, _ := io.ReadAll(r.Body)
		_ = proto.Unmarshal(body, &q)
		ttl, err := s.LeaseRenewHere(r.Context(), kv.LeaseID(q.ID))
		_, _ = w.Write(answer(w, &pb.LeaseKeepAliveResponse{ID: q.ID, TTL: ttl}, err))
	})
	mux.HandleFunc(PathLeasesInternal, func(w http.ResponseWriter, r *http.Request) {
		var q pb.LeaseTimeToLiveRequest
		body, _ := io.ReadAll(r.Body)
		body, _ = kv.DecodeLeaseInternal(body)
		_ = proto.Unmarshal(body, &q)
		status, err := s.LeaseTimeToLiveHere(r.Context(), kv.LeaseID(q.ID), q.Keys)
		body = answer(w, &pb.LeaseTimeToLiveResponse{ID: q.ID, TTL: status.Remaining, GrantedTTL: status.Granted, Keys: status.Keys}, err)
		if err == nil {
			_, _ = w.Write(kv.AppendLeaseInternal(nil, body))
		}
	})
	return mux
}

// TestLeasesAtEveryMember: a lease is granted, renewed, asked for and revoked at any member, and ends everywhere.
func TestLeasesAtEveryMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		c.leader()
		for i, m := range c.members {
			id := kv.LeaseID(i + 1)
			m.grant(id, 10)
			m.putLeased(fmt.Sprint("k", i), id)
			c.awaitEqual()
			for _, other := range c.members {
				time.Sleep(4 * time.Second)
				s, err := other.LeaseTimeToLive(t.Context(), id, true)
				if err != nil || s.Granted != 10 || s.Remaining < 5 || s.Remaining > 6 || len(s.Keys) != 1 || string(s.Keys[0]) != fmt.Sprint("k", i) {
					t.Errorf("%s tells of lease %d: %+v, %v", other.cfg.Name, i+1, s, err)
				}
				if ttl, err := other.LeaseRenew(t.Context(), id); ttl != 10 || err != nil {
					t.Errorf("%s renewed lease %d for %d s: %v", other.cfg.Name, i+1, ttl, err)
				}
				if got := other.leaseIDs(); len(got) != 1 || got[0] != id {
					t.Errorf("%s lists %v", other.cfg.Name, got)
				}
			}
			time.Sleep(9 * time.Second)
			for _, other := range c.members {
				if other.get(fmt.Sprint("k", i)) == "" {
					t.Errorf("%s lost the key before its time", other.cfg.Name)
				}
			}
			time.Sleep(1100 * time.Millisecond)
			for _, other := range c.members {
				if other.get(fmt.Sprint("k", i)) != "" {
					t.Errorf("%s has the key after its time", other.cfg.Name)
				}
				if _, err := other.LeaseRenew(t.Context(), id); !errors.Is(err, lease.ErrNotFound) {
					t.Errorf("%s renews a lease that has gone: %v", other.cfg.Name, err)
				}
				if _, err := other.LeaseTimeToLive(t.Context(), id, false); !errors.Is(err, lease.ErrNotFound) {
					t.Errorf("%s tells of a lease that has gone: %v", other.cfg.Name, err)
				}
			}
		}
	})
}

// TestLeasesWithoutLeader: a member alone cannot tell about leases and says so when the time of a request is over; what it
// knows by itself it lists. When the others are back it goes on, with the lease.
func TestLeasesWithoutLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		m := c.members[0]
		m.grant(1, 60)
		c.awaitEqual()
		c.kill(1)
		c.kill(2)
		c.eventually("the member knows no leader", func() bool { return m.Leader() == 0 })
		began := time.Now()
		if _, err := m.LeaseRenew(t.Context(), 1); !errors.Is(err, ErrNoLeader) {
			t.Errorf("renewed: %v", err)
		}
		if took := time.Since(began); took != m.cfg.requestTimeout() {
			t.Errorf("told after %v", took)
		}
		if _, err := m.LeaseTimeToLive(t.Context(), 1, false); !errors.Is(err, ErrNoLeader) {
			t.Errorf("told: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.LeaseRenew(ctx, 1); err == nil {
			t.Error("renewed")
		}
		if got := m.leaseIDs(); len(got) != 1 {
			t.Errorf("lists %v", got)
		}
		c.start(1)
		c.start(2)
		c.awaitReady()
		if ttl, err := m.LeaseRenew(t.Context(), 1); ttl != 60 || err != nil {
			t.Errorf("renewed for %d s: %v", ttl, err)
		}
	})
}

// TestRenewalGoesOnToTheNextLeader: the leader goes silent while it is asked; who asked is answered by its successor, long
// before the time of a request is over.
func TestRenewalGoesOnToTheNextLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		leader, asked := c.leader(), c.members[c.follower()]
		asked.grant(1, 60)
		if _, err := asked.LeaseRenew(t.Context(), 1); err != nil { // opens the connection
			t.Fatal(err)
		}
		c.net.silence(c.members[leader].address, true)
		at := c.members[leader].renewing(1)
		for _, renewed := range []<-chan renewResult{asked.renewing(1), asked.renewing(1)} {
			began := time.Now()
			if r := <-renewed; r.ttl != 60 || r.err != nil || r.at.Sub(began) > 4*time.Second {
				t.Errorf("renewed for %d s after %v: %v", r.ttl, r.at.Sub(began), r.err)
			}
		}
		if r := <-at; !errors.Is(r.err, ErrNoLeader) && !errors.Is(r.err, ErrTimeout) {
			t.Errorf("the leader that is cut off renewed for %d s: %v", r.ttl, r.err)
		}
		c.net.silence(c.members[leader].address, false)
	})
}

// TestDeposedLeaderEndsNoLease lets a leader do on waking what it would have done when it was frozen: leases that were over
// by its clock live on, and nothing it asks for enters the log.
func TestDeposedLeaderEndsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		old := c.members[c.leader()]
		old.grant(1, 10)
		old.putLeased("k", 1)
		term := old.replica.Status().Term
		time.Sleep(8 * time.Second)
		if err := old.MoveLeader(t.Context(), c.members[c.follower()].ID()); err != nil {
			t.Fatal(err)
		}
		led := c.members[c.leader()]
		synctest.Wait()
		if ttl, err := led.LeaseRenew(t.Context(), 1); ttl != 10 || err != nil {
			t.Fatalf("renewed for %d s: %v", ttl, err)
		}
		c.awaitEqual()
		committed := led.Status().Committed
		old.clock.start(term, old.leases.All, -10*time.Second)
		old.tendOnce(t.Context(), term)
		old.clock.stop()
		if got := led.Status().Committed; got != committed {
			t.Errorf("%d entries came from a leader of before", got-committed)
		}
		if led.get("k") == "" || old.get("k") == "" {
			t.Error("the key is gone")
		}
	})
}

// TestLeaseLivesAreCarriedOver lets leases be renewed or left to themselves while the leadership changes. None may be gone
// within its life after the client last asked for a renewal that was granted; and one that nobody renews has to go soon:
// a change of leader prolongs it by the part of its life that is not agreed on, and by the time without a leader.
func TestLeaseLivesAreCarriedOver(t *testing.T) {
	seed := drawSeed(t)
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		c := startCluster(t, 3)
		const ttl = 60 * time.Second
		type tracked struct {
			id      kv.LeaseID
			renewed time.Time // when the client asked
			changes int       // of leader since
		}
		var leases []*tracked
		for i := range 12 {
			l := &tracked{id: kv.LeaseID(i + 1), renewed: time.Now()}
			c.members[i%3].grant(l.id, int64(ttl/time.Second))
			leases = append(leases, l)
		}
		// A change of leader may cost a lease two thirds of its life, the step in which checkpoints fall due, the extension and
		// the time until a leader is there and the lease revoked.
		const perChange = ttl*2/3 + checkpointStep + 5*time.Second
		var changes, ended int
		for began := time.Now(); len(leases) > 0 && time.Since(began) < 30*time.Minute; {
			time.Sleep(time.Duration(rnd.IntN(8000)) * time.Millisecond)
			if rnd.IntN(8) == 0 {
				at := c.leader()
				if rnd.IntN(2) == 0 {
					c.kill(at)
					c.leader()
					c.start(at)
					c.awaitReady()
				} else if err := c.members[at].MoveLeader(t.Context(), c.members[(at+1)%3].ID()); err != nil {
					t.Fatal(err)
				}
				changes++
				for _, l := range leases {
					l.changes++
				}
			}
			at := c.members[rnd.IntN(3)]
			leases = slices.DeleteFunc(leases, func(l *tracked) bool {
				age := time.Since(l.renewed)
				if time.Since(began) < 3*time.Minute && (rnd.IntN(10) == 0 || age > ttl*3/4) && age < ttl-5*time.Second {
					asked := time.Now()
					if _, err := at.LeaseRenew(t.Context(), l.id); err != nil {
						t.Fatalf("lease %s, %v old, after %d changes: %v", l.id, age, l.changes, err)
					}
					l.renewed, l.changes = asked, 0
					return false
				}
				_, err := at.LeaseTimeToLive(t.Context(), l.id, false)
				switch age = time.Since(l.renewed); {
				case errors.Is(err, lease.ErrNotFound):
					ended++
					if age < ttl {
						t.Errorf("lease %s ended after %v, and %d changes of leader", l.id, age, l.changes)
					}
					return true
				case err != nil:
					t.Fatal(err)
				case age > ttl+10*time.Second+time.Duration(l.changes)*perChange:
					t.Errorf("lease %s is %v old, after %d changes of leader", l.id, age, l.changes)
				}
				return false
			})
		}
		if ended != 12 || changes == 0 {
			t.Errorf("%d leases ended over %d changes of leader", ended, changes)
		}
		c.awaitEqual()
	})
}

package clientv3

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func TestLease(t *testing.T) {
	ctx, c := connect(t)
	granted := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 60))
	equal(t, "time to live", 60, granted.TTL)
	must[*clientv3.PutResponse](t)(c.Put(ctx, "lease/a", "1", clientv3.WithLease(granted.ID)))
	must[*clientv3.PutResponse](t)(c.Put(ctx, "lease/b", "1", clientv3.WithLease(granted.ID)))
	must[*clientv3.PutResponse](t)(c.Put(ctx, "lease/a", "2", clientv3.WithIgnoreLease()))
	left := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys()))
	keys := []string{string(left.Keys[0]), string(left.Keys[1])}
	slices.Sort(keys)
	equal(t, "keys", "[lease/a lease/b]", keys)
	if left.TTL > 60 || left.TTL < 60-int64(testTimeout.Seconds()) || left.GrantedTTL != 60 {
		t.Errorf("%d of %d s left", left.TTL, left.GrantedTTL)
	}
	once := must[*clientv3.LeaseKeepAliveResponse](t)(c.KeepAliveOnce(ctx, granted.ID))
	equal(t, "kept alive once", 60, once.TTL)
	list := must[*clientv3.LeaseLeasesResponse](t)(c.Leases(ctx))
	if !slices.ContainsFunc(list.Leases, func(l clientv3.LeaseStatus) bool { return l.ID == granted.ID }) {
		t.Errorf("the list lacks lease %x", int64(granted.ID))
	}

	watch := c.Watch(ctx, "lease/", clientv3.WithPrefix(), clientv3.WithRev(granted.Revision+4))
	must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(ctx, granted.ID))
	equal(t, "keys of a revoked lease", "DELETE lease/a= v0, DELETE lease/b= v0", follow(ctx, t, watch, 2))
	gone := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, granted.ID))
	equal(t, "time to live of no lease", -1, gone.TTL)
	_, err := c.KeepAliveOnce(ctx, granted.ID)
	wants(t, "keep alive of no lease", rpctypes.ErrLeaseNotFound, err)
}

// TestLeaseExpiry leaves one lease alone and keeps another alive for longer than both would live.
func TestLeaseExpiry(t *testing.T) {
	ctx, c := connect(t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 2))
	kept := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 2))
	must[*clientv3.PutResponse](t)(c.Put(ctx, "expiry/kept", "1", clientv3.WithLease(kept.ID)))
	began := must[*clientv3.PutResponse](t)(c.Put(ctx, "expiry/left", "1", clientv3.WithLease(left.ID))).Header.Revision
	answers := must[<-chan *clientv3.LeaseKeepAliveResponse](t)(c.KeepAlive(ctx, kept.ID))
	watch := c.Watch(ctx, "expiry/", clientv3.WithPrefix(), clientv3.WithRev(began+1))
	equal(t, "expired", "DELETE expiry/left= v0", follow(ctx, t, watch, 1))
	for range 4 { // every 2/3 s, so past the end of the kept lease
		if r := <-answers; r == nil || r.TTL != 2 {
			t.Fatalf("kept alive with %v", r)
		}
	}
	equal(t, "kept", "expiry/kept=1", pairs(must[*clientv3.GetResponse](t)(c.Get(ctx, "expiry/", clientv3.WithPrefix()))))
	must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(ctx, kept.ID))
}

// TestLock lets several sessions add to a counter that nothing but the lock protects.
func TestLock(t *testing.T) {
	ctx, c := connect(t)
	const holders, rounds = 4, 5
	counter := 0
	var group sync.WaitGroup
	for range holders {
		session := must[*concurrency.Session](t)(concurrency.NewSession(c, concurrency.WithTTL(30)))
		group.Add(1)
		go func() {
			defer group.Done()
			defer func() { _ = session.Close() }()
			lock := concurrency.NewMutex(session, "lock/")
			for range rounds {
				if err := lock.Lock(ctx); err != nil {
					t.Error(err)
					return
				}
				before := counter
				time.Sleep(time.Millisecond)
				counter = before + 1
				if err := lock.Unlock(ctx); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	group.Wait()
	equal(t, "counted", holders*rounds, counter)
}

func TestTryLock(t *testing.T) {
	ctx, c := connect(t)
	one := must[*concurrency.Session](t)(concurrency.NewSession(c))
	two := must[*concurrency.Session](t)(concurrency.NewSession(c))
	defer func() { _ = two.Close() }()
	held, wanted := concurrency.NewMutex(one, "trylock/"), concurrency.NewMutex(two, "trylock/")
	if err := held.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	wants(t, "a held lock", concurrency.ErrLocked, wanted.TryLock(ctx))
	if err := one.Close(); err != nil { // revokes the lease and with it the lock
		t.Fatal(err)
	}
	if err := wanted.Lock(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestElection(t *testing.T) {
	ctx, c := connect(t)
	sessions := []*concurrency.Session{
		must[*concurrency.Session](t)(concurrency.NewSession(c)), must[*concurrency.Session](t)(concurrency.NewSession(c)),
	}
	first, second := concurrency.NewElection(sessions[0], "election"), concurrency.NewElection(sessions[1], "election")
	_, err := first.Leader(ctx)
	wants(t, "leader of nobody", concurrency.ErrElectionNoLeader, err)
	seen := concurrency.NewElection(sessions[1], "election").Observe(ctx)
	next := func() string { return firstValue(seen) }
	if err := first.Campaign(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	equal(t, "leader", "one", next())
	elected := make(chan error, 1)
	go func() { elected <- second.Campaign(ctx, "two") }()
	if err := first.Proclaim(ctx, "still one"); err != nil {
		t.Fatal(err)
	}
	equal(t, "leader", "still one", next())
	if err := first.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-elected; err != nil {
		t.Fatal(err)
	}
	equal(t, "leader", "two", next())
	for _, s := range sessions {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// firstValue receives an answer and returns the value of its first key. Clients before 3.7 send answers, later ones
// pointers to them.
func firstValue[T any](answers <-chan T) string {
	answer := <-answers
	switch r := any(&answer).(type) {
	case *clientv3.GetResponse:
		return string(r.Kvs[0].Value)
	case **clientv3.GetResponse:
		return string((*r).Kvs[0].Value)
	default:
		panic(fmt.Sprintf("clientv3: an answer is a %T", answer))
	}
}

// TestSTM moves amounts between accounts from several goroutines; the sum must stay.
func TestSTM(t *testing.T) {
	ctx, c := connect(t)
	const accounts, movers, moves = 4, 4, 10
	for i := range accounts {
		must[*clientv3.PutResponse](t)(c.Put(ctx, fmt.Sprintf("stm/%d", i), "100"))
	}
	var group sync.WaitGroup
	for m := range movers {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range moves {
				from, to := fmt.Sprintf("stm/%d", (m+i)%accounts), fmt.Sprintf("stm/%d", (m+2*i+1)%accounts)
				_, err := concurrency.NewSTM(c, func(s concurrency.STM) error {
					if from == to {
						return nil
					}
					s.Put(from, fmt.Sprint(number(s.Get(from))-1))
					s.Put(to, fmt.Sprint(number(s.Get(to))+1))
					return nil
				}, concurrency.WithAbortContext(ctx))
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	group.Wait()
	sum := 0
	for _, kv := range must[*clientv3.GetResponse](t)(c.Get(ctx, "stm/", clientv3.WithPrefix())).Kvs {
		sum += number(string(kv.Value))
	}
	equal(t, "sum", accounts*100, sum)
}

func number(text string) int {
	var n int
	_, _ = fmt.Sscan(text, &n) // what no number is, reads as 0 and breaks the sum
	return n
}

package server

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/kv"
)

var manyLeases = flag.Int("server.leases", 2000, "number of leases in TestManyLeasesComeAndGo; 100000 is the long form")

// raceDetector tells that the tests run under it (race_test.go).
var raceDetector bool

// TestManyLeasesComeAndGo grants leases with a TTL of 20 s for 20 s, with a key each, at all members, keeps each alive for a
// minute, as clients do, every third of its life, and leaves it then; while others put. At 100,000 leases that is 5,000
// grants, 15,000 renewals, 5,000 revocations and 2,000 puts a second; fewer leases are proportionally less of each. Each key
// has to be there until its time and gone 2 s later, and no put may take longer than that.
//
// The time is a bubble's: it passes only when everybody waits, here for the network, which takes 5 ms each way.
func TestManyLeasesComeAndGo(t *testing.T) {
	if raceDetector {
		t.Skip("waits for a race detector that does not crash: that of Go 1.26.8 does with so many timers in a bubble")
	}
	const (
		ttl       = 20 * time.Second
		kept      = time.Minute
		lateMax   = 2 * time.Second
		step      = 50 * time.Millisecond
		grantTime = 20 * time.Second
		way       = 5 * time.Millisecond
	)
	seed := drawSeed(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.net.delay = way
		for i := range c.members {
			c.start(i)
		}
		c.awaitReady()
		c.leader()
		steps := int(grantTime / step)
		leases := *manyLeases / steps * steps
		putsPerStep := max(leases/50*int(step/time.Millisecond)/1000, 1)

		var mu sync.Mutex
		renewed := make([]time.Time, leases) // guarded by mu: when the last renewal was asked for
		var group sync.WaitGroup
		live := func(i int, rnd *rand.Rand) {
			m, id, key := c.members[i%3], kv.LeaseID(i+1), fmt.Sprintf("lease/%06d", i)
			asked := time.Now()
			_, err := m.LeaseGrant(t.Context(), kv.LeaseGrantRequest{ID: id, TTL: int64(ttl / time.Second)})
			if err == nil {
				_, err = m.tryPut(t.Context(), key, "x", id)
			}
			if err != nil {
				t.Errorf("lease %s: %v", id, err)
				return
			}
			for end := asked.Add(kept); ; {
				mu.Lock()
				renewed[i] = asked
				mu.Unlock()
				time.Sleep(ttl/3 - time.Duration(rnd.IntN(500))*time.Millisecond)
				if asked = time.Now(); asked.After(end) {
					return
				}
				if got, err := m.LeaseRenew(t.Context(), id); err != nil || got != int64(ttl/time.Second) {
					t.Errorf("lease %s was renewed for %d s: %v", id, got, err)
					return
				}
			}
		}

		putting, stopPutting := context.WithCancel(t.Context())
		var puts, slowest atomic.Int64
		var putters sync.WaitGroup
		putters.Go(func() {
			tick := time.NewTicker(step)
			defer tick.Stop()
			for n := 0; putting.Err() == nil; n++ {
				for i := range putsPerStep {
					putters.Go(func() {
						began := time.Now()
						if _, err := c.members[i%3].tryPut(t.Context(), fmt.Sprintf("put/%d", i), fmt.Sprint(n), 0); err != nil {
							t.Errorf("put: %v", err)
						}
						took := int64(time.Since(began))
						for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
						}
						puts.Add(1)
					})
				}
				<-tick.C
			}
		})

		seeds := rand.New(rand.NewPCG(seed, 1))
		for s := range steps {
			for i := s * leases / steps; i < (s+1)*leases/steps; i++ {
				rnd := rand.New(rand.NewPCG(seeds.Uint64(), 1))
				group.Go(func() { live(i, rnd) })
			}
			time.Sleep(step)
		}

		// A follower is looked at: a key must be there a moment before its time, and is waited for to go.
		at := c.members[c.follower()]
		var late []time.Duration
		waiting := make([]int, leases)
		for i := range waiting {
			waiting[i] = i
		}
		for len(waiting) > 0 {
			time.Sleep(step)
			now := time.Now()
			waiting = slices.DeleteFunc(waiting, func(i int) bool {
				mu.Lock()
				end := renewed[i].Add(ttl)
				mu.Unlock()
				if now.Before(end.Add(-2 * step)) {
					return false
				}
				_, exists := at.leases.Lookup(kv.LeaseID(i + 1))
				switch {
				case exists && now.Sub(end) > lateMax:
					t.Errorf("lease %d is there %v after its end", i+1, now.Sub(end))
					return true
				case exists:
					return false
				case now.Before(end):
					t.Errorf("lease %d went %v before its end", i+1, end.Sub(now))
				}
				late = append(late, now.Sub(end))
				return true
			})
		}
		group.Wait()
		stopPutting()
		putters.Wait()
		r, err := at.Range(t.Context(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("lease/"), End: []byte("lease0")}, CountOnly: true})
		if err != nil || r.Count != 0 {
			t.Errorf("%d keys are left: %v", r.Count, err)
		}
		slices.Sort(late)
		t.Logf("%d leases: gone after %v in the middle, %v at the latest; %d puts, the slowest %v",
			leases, late[len(late)/2], late[len(late)-1], puts.Load(), time.Duration(slowest.Load()))
		if took := time.Duration(slowest.Load()); took > lateMax {
			t.Errorf("a put took %v", took)
		}
	})
}

// Package load writes to a cluster as many clients do, at a rate or as fast as it goes, and measures what the writes took.
//
// Rate and number of clients are independent: the clients take writes from one queue, so that the rate is kept as long
// as one of them is free. A write that a stop finds under way is finished and counted.
//
//	Shape   a feeder at Rate -> Clients writers -> one Stats
//	Units   rate in writes a second, times in seconds
package load

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"
)

// Plan is what is written.
type Plan struct {
	Prefix  string
	Keys    int           // how many writes; 0 is as many as Time has room for
	Time    time.Duration // how long; 0 is as long as Keys take
	Rate    int           // writes a second; 0 is as fast as it goes
	KeySize int           // bytes behind the prefix, at least binary.MaxVarintLen64
	Value   []byte
	Timeout time.Duration    // of one write; 0 is none
	Seed    uint64           // draws the keys
	Wrote   func(total int)  // called after each write, from any goroutine, with the number of writes so far; may be nil
	Now     func() time.Time // the clock
}

// Run writes with each of the clients at once until the plan is carried out or ctx ends, and returns what was measured.
func Run(ctx context.Context, clients []clientv3.KV, plan Plan) Stats {
	if plan.Time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, plan.Time)
		defer cancel()
	}
	keys := make(chan string) // unbuffered: what is taken is written
	var group sync.WaitGroup
	group.Go(func() { feed(ctx, keys, plan) })
	m := meter{began: plan.Now(), wrote: plan.Wrote}
	for _, client := range clients {
		group.Go(func() {
			for key := range keys {
				start := plan.Now()
				err := write(context.WithoutCancel(ctx), client, key, plan)
				m.add(plan.Now().Sub(start), err)
			}
		})
	}
	group.Wait()
	return m.stats(plan.Now())
}

func write(ctx context.Context, client clientv3.KV, key string, plan Plan) error {
	if plan.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, plan.Timeout)
		defer cancel()
	}
	_, err := client.Put(ctx, key, string(plan.Value))
	return err
}

// feed hands out the keys to write, at the plan's rate, and closes keys at the end.
func feed(ctx context.Context, keys chan<- string, plan Plan) {
	defer close(keys)
	limit := rate.NewLimiter(rate.Inf, 1)
	if plan.Rate > 0 {
		limit.SetLimit(rate.Limit(plan.Rate))
	}
	draw := rand.New(rand.NewPCG(plan.Seed, 0))
	key := make([]byte, plan.KeySize)
	for n := 0; plan.Keys == 0 || n < plan.Keys; n++ {
		if limit.Wait(ctx) != nil { // the time is over, or would be before the next write
			return
		}
		binary.PutVarint(key, draw.Int64())
		select {
		case keys <- plan.Prefix + string(key):
		case <-ctx.Done():
			return
		}
	}
}

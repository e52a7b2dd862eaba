package server

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// brake slows writers down while flushes or merges of tables are behind, the more the further they are, and the more a request brings. So a
// load that is faster than they are goes on at their pace, in place of being refused in turns, and single small requests feel little of it.
type brake struct {
	share atomic.Uint64 // how far the store is behind, as the bits of a float64
}

// At brakeFrom of what makes the store congested a KiB is held up by brakeLeast, and by twice as much with each twelfth of what is left: whether
// ten callers write or thousands, there is a share at which they are as slow as the store. With 1 writers are refused.
const (
	brakeFrom  = 0.4
	brakeLeast = 50 * time.Microsecond
	brakeSteps = 12
	brakeMost  = time.Second // for one request
)

// set says how far the store is behind: 0 not at all, 1 so far that it is congested.
func (b *brake) set(share float64) { b.share.Store(math.Float64bits(share)) }

func (b *brake) get() float64 { return math.Float64frombits(b.share.Load()) }

// holds is for how long a request of cost bytes is to wait, and whether it is refused instead.
func (b *brake) holds(cost int64) (wait time.Duration, refused bool) {
	share := b.get()
	switch {
	case share < brakeFrom:
		return 0, false
	case share >= 1:
		return 0, true
	}
	steps := brakeSteps * (share - brakeFrom) / (1 - brakeFrom)
	return min(brakeMost, time.Duration(float64(brakeLeast)*float64(cost)/1024*math.Exp2(steps))), false
}

// pass waits as long as a request of cost bytes has to.
func (b *brake) pass(ctx context.Context, cost int64) error {
	wait, refused := b.holds(cost)
	if refused {
		return ErrTooManyRequests
	}
	if wait < restLeast {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

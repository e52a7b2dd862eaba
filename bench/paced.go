package bench

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// paced are calls that begin at a rate, whatever becomes of those before: an open loop. How long one took counts from when it was to
// begin, so that a server that stalls is charged for all who would have come meanwhile.
type paced struct {
	perSecond float64
	call      func(ctx context.Context, i int) error
}

// pacedOpenMax bounds the calls under way: a server that is behind for longer than this is asked less, but is charged for it.
const pacedOpenMax = 10_000

// timed is one call: when it was to begin, since the first, and how long after that it was answered.
type timed struct{ at, took time.Duration }

// run makes calls until ctx ends, and waits for those under way. An error ends it, too.
func (p paced) run(ctx context.Context) ([]timed, error) {
	var mu sync.Mutex // guards the two below
	var all []timed
	var first error
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	open := make(chan struct{}, pacedOpenMax)
	var under sync.WaitGroup
	began := time.Now()
	for i := 0; ; i++ {
		at := time.Duration(float64(i) / p.perSecond * float64(time.Second))
		if pause(ctx, time.Until(began.Add(at))) != nil {
			break
		}
		select {
		case open <- struct{}{}:
		case <-ctx.Done():
			continue // the loop ends above
		}
		under.Go(func() {
			defer func() { <-open }()
			_, err := untilTaken(context.WithoutCancel(ctx), func(ctx context.Context) error { return p.call(ctx, i) })
			took := time.Since(began) - at
			mu.Lock()
			defer mu.Unlock()
			all = append(all, timed{at, took})
			if err != nil && first == nil {
				first = err
				stop()
			}
		})
	}
	under.Wait()
	if first == nil && len(all) == 0 {
		first = errors.New("no call was made")
	}
	return all, first
}

// tookIn are the durations of the calls that were to begin between from and to, shortest first.
func tookIn(all []timed, from, to time.Duration) []time.Duration {
	var took []time.Duration
	for _, one := range all {
		if one.at >= from && one.at < to {
			took = append(took, one.took)
		}
	}
	slices.Sort(took)
	return took
}

// answeredPerSecond is how many calls were answered a second between from and to, whenever they were to begin.
func answeredPerSecond(all []timed, from, to time.Duration) float64 {
	n := 0
	for _, one := range all {
		if end := one.at + one.took; end >= from && end < to {
			n++
		}
	}
	return float64(n) / (to - from).Seconds()
}

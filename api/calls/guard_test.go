package calls

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/tap"
)

const rangeMethod = "/etcdserverpb.KV/Range"

// Goal: every call counts once, however it ends. Method: many at once that run to their end, are broken off before they run, or
// between; then none counts.
func TestCallsCountExactly(t *testing.T) {
	g := NewGuard(50, errors.New("too many"))
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 5000 {
				base, cancel := context.WithCancel(t.Context())
				ctx, err := g.Admit(base, &tap.Info{FullMethodName: rangeMethod})
				if err != nil {
					cancel()
					time.Sleep(SweepPause / 10)
					continue
				}
				if (i+j)%3 == 0 {
					cancel()
				}
				if (i+j)%5 != 0 {
					if class := Running(ctx); class != nil {
						class.Leave()
					}
				}
				cancel()
			}
		})
	}
	all.Wait()
	g.reads.mu.Lock()
	defer g.reads.mu.Unlock()
	g.reads.swept = time.Time{}
	g.reads.sweep()
	if g.reads.under != 0 || g.reads.first != nil {
		t.Errorf("%d calls count when none is under way", g.reads.under)
	}
	if g.reads.refused == 0 {
		t.Error("the class was never full: the test shows nothing")
	}
}

func BenchmarkAdmit(b *testing.B) {
	g := NewGuard(1000, errors.New("too many"))
	b.ReportAllocs()
	for b.Loop() {
		ctx, err := g.Admit(b.Context(), &tap.Info{FullMethodName: rangeMethod})
		if err != nil {
			b.Fatal(err)
		}
		Running(ctx).Leave()
	}
}

package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestBrake: the further the store is behind, and the more a request brings, the longer it waits; nobody waits while the store keeps up, and nobody
// gets through when it is congested.
func TestBrake(t *testing.T) {
	var b brake
	const small, large = 512, 64 << 10
	for _, share := range []float64{0, brakeFrom - 0.01} {
		b.set(share)
		if wait, refused := b.holds(large); wait != 0 || refused {
			t.Errorf("with %.2f a request waits for %s, refused: %t", share, wait, refused)
		}
	}
	last := time.Duration(0)
	for share := brakeFrom; share < 1; share += 0.05 {
		b.set(share)
		one, refused := b.holds(small)
		many, _ := b.holds(large)
		if refused || one <= last || many < one || many > brakeMost || many < brakeMost && many/one != large/small {
			t.Errorf("with %.2f a small request waits for %s and a large one for %s, after %s; refused: %t", share, one, many, last, refused)
		}
		last = one
	}
	b.set(1)
	if _, refused := b.holds(small); !refused {
		t.Error("a congested store refuses nobody")
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := b.pass(t.Context(), small); !errors.Is(err, ErrTooManyRequests) {
			t.Errorf("a congested store: %v", err)
		}
		b.set(0.99)
		wait, _ := b.holds(large)
		if err := b.pass(t.Context(), large); err != nil || time.Since(began) != wait {
			t.Errorf("%v after %s, not %s", err, time.Since(began), wait)
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait/2)
		defer cancel()
		if err := b.pass(ctx, large); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller who gives up: %v", err)
		}
	})
}

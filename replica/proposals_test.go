package replica

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// TestBounds checks that what does not fit is refused, and that it fits again later.
func TestBounds(t *testing.T) {
	ctx := context.Background()
	log, m := &memLog{}, newMemMachine(1)
	cfg := testConfig(1, log, m)
	cfg.Limits = Limits{QueuedEntries: 3, QueuedBytes: 10, ApplyGap: 2}
	r, err := New(cfg, log.state(m))
	if err != nil {
		t.Fatal(err)
	}
	propose := func(size int, want error) {
		t.Helper()
		if err := r.Propose(ctx, make([]byte, size)); !errors.Is(err, want) {
			t.Fatalf("propose %d bytes: %v, want %v", size, err, want)
		}
	}
	propose(8, nil)
	propose(3, ErrTooManyRequests) // bytes
	propose(1, nil)
	propose(1, nil)
	propose(0, ErrTooManyRequests) // entries
	if s := r.Stats(); s.Queued != 3 || s.QueuedBytes != 10 {
		t.Fatalf("counted %+v", s)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	settle(t, r)
	propose(11, nil) // alone, anything passes
	propose(0, ErrTooManyRequests)
	settle(t, r)
	if err := r.Propose(gone, []byte("gone")); err != nil {
		t.Fatal(err)
	}
	settle(t, r)
	if got := len(m.data()); got != 4 {
		t.Fatalf("%d proposals applied, want 4: the fifth caller had gone", got)
	}

	for range 3 { // everything but the applier runs
		propose(1, nil)
	}
	for range 5 {
		r.Advance()
		if err := r.WriteLog(); err != nil {
			t.Fatal(err)
		}
	}
	propose(1, ErrTooManyRequests) // three committed entries are not applied
	settle(t, r)
	propose(1, nil)
}

// TestQueueStaysSmall checks that a queue that is never quite empty does not grow with what has gone through it, and keeps
// its order.
func TestQueueStaysSmall(t *testing.T) {
	q := newProposals(make(chan struct{}, 1), Limits{}.withDefaults())
	next, taken := 0, 0
	for range 40 {
		for range proposalEntries {
			if err := q.add(proposal{ctx: t.Context(), data: fmt.Append(nil, next)}); err != nil {
				t.Fatal(err)
			}
			next++
		}
		if next == proposalEntries {
			continue // one batch always stays behind
		}
		for _, p := range q.take(nil) {
			if want := fmt.Sprint(taken); string(p.data) != want {
				t.Fatalf("took %s, want %s", p.data, want)
			}
			taken++
		}
	}
	if n, bytes := q.waiting(); n != proposalEntries || bytes == 0 || cap(q.items) > 6*proposalEntries {
		t.Fatalf("%d waiting, %d bytes, room for %d", n, bytes, cap(q.items))
	}
}

// TestPruneWhileHeld checks that callers who have gone make room in a queue that no leader empties.
func TestPruneWhileHeld(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1, 2, 3)
	cfg := testConfig(1, log, m)
	cfg.Limits.QueuedEntries = 1
	r, err := New(cfg, log.state(m))
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	if err := r.Propose(gone, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := r.Propose(context.Background(), nil); !errors.Is(err, ErrTooManyRequests) {
		t.Fatal(err)
	}
	r.Tick()
	r.Advance()
	if err := r.Propose(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
}

package server

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"holdfast/apply"
	"holdfast/kv"
)

// TestWaitersAnswerOnce goes through the ends a wait can have: a result, a deadline, a caller who leaves. Whatever comes
// after that is nobody's.
func TestWaitersAnswerOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	late := errors.New("late")
	for name, c := range map[string]struct {
		do   func(w *waiters)
		want string
	}{
		"a result":                      {func(w *waiters) { w.deliver(apply.Result{ID: 7, Revision: 3}) }, "3 <nil>"},
		"two results":                   {func(w *waiters) { w.deliver(apply.Result{ID: 7, Revision: 3}); w.deliver(apply.Result{ID: 7}) }, "3 <nil>"},
		"another's result":              {func(w *waiters) { w.deliver(apply.Result{ID: 9}) }, "waits"},
		"a result of nobody":            {func(w *waiters) { w.deliver(apply.Result{}) }, "waits"},
		"at the deadline":               {func(w *waiters) { w.expire(now, late) }, "waits"},
		"after the deadline":            {func(w *waiters) { w.expire(now.Add(1), late) }, "0 late"},
		"a result after the deadline":   {func(w *waiters) { w.expire(now.Add(1), late); w.deliver(apply.Result{ID: 7}) }, "0 late"},
		"a deadline after the result":   {func(w *waiters) { w.deliver(apply.Result{ID: 7, Revision: 3}); w.expire(now.Add(1), late) }, "3 <nil>"},
		"settled when it began":         {func(w *waiters) { w.settle(now.Add(-1), late) }, "waits"},
		"settled after it began":        {func(w *waiters) { w.settle(now, late) }, "0 late"},
		"settled after the result":      {func(w *waiters) { w.deliver(apply.Result{ID: 7, Revision: 3}); w.settle(now, late) }, "3 <nil>"},
		"closed":                        {func(w *waiters) { w.close(late) }, "0 late"},
		"a result after the close":      {func(w *waiters) { w.close(late); w.deliver(apply.Result{ID: 7}) }, "0 late"},
		"closed after the result":       {func(w *waiters) { w.deliver(apply.Result{ID: 7, Revision: 3}); w.close(late) }, "3 <nil>"},
		"leaving":                       {func(w *waiters) { w.leave(7) }, "left"},
		"a result after leaving":        {func(w *waiters) { w.leave(7); w.deliver(apply.Result{ID: 7}) }, "left"},
		"a deadline after leaving":      {func(w *waiters) { w.leave(7); w.expire(now.Add(1), late) }, "left"},
		"leaving when nobody waits":     {func(w *waiters) { w.leave(9) }, "waits"},
		"a deadline long in the future": {func(w *waiters) { w.expire(time.Time{}, late) }, "waits"},
	} {
		w := newWaiters()
		one := w.add(t.Context(), 7, now.Add(-1), now)
		c.do(w)
		got := "left"
		select {
		case r := <-one.done:
			got = fmt.Sprintf("%v %v", r.Revision, r.Err)
		default:
			if w.waits(7) {
				got = "waits"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if waits := w.waits(7); waits != (c.want == "waits") || w.count() > 1 {
			t.Errorf("%s: %d wait", name, w.count())
		}
	}
}

// TestWaitersAreNotMixedUp lets many requests wait, be answered, time out and leave at once. Waiters are used again: each
// answer must reach the request that it is for, which the race detector and the numbers show.
func TestWaitersAreNotMixedUp(t *testing.T) {
	w, ids := newWaiters(), newIDs(1, time.Now())
	late := errors.New("late")
	toApply := make(chan uint64, 64)
	stop := make(chan struct{})
	var background, callers sync.WaitGroup
	background.Go(func() {
		for id := range toApply {
			w.deliver(apply.Result{ID: id, Revision: kv.Revision(id >> 1)})
		}
	})
	background.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.expire(time.Now(), late)
			}
		}
	})
	for range 8 {
		callers.Go(func() {
			for range 2000 {
				id := ids.draw()
				one := w.add(t.Context(), id, time.Now(), time.Now().Add(time.Duration(rand.IntN(40))*time.Microsecond))
				toApply <- id
				if rand.IntN(4) == 0 {
					w.leave(id)
					continue
				}
				if r := <-one.done; r.Err == nil && (r.ID != id || r.Revision != kv.Revision(id>>1)) {
					t.Errorf("request %x got the answer of %x", id, r.ID)
				}
				w.free(one)
			}
		})
	}
	callers.Wait()
	close(toApply)
	close(stop)
	background.Wait()
	if n := w.count(); n != 0 {
		t.Errorf("%d wait in the end", n)
	}
}

// TestIDsAreNeverDrawnTwice, by members of different ids that start at the same moment, and by one that starts again after less than
// what its counter holds.
func TestIDsAreNeverDrawnTwice(t *testing.T) {
	seen, start := map[uint64]bool{0: true}, time.UnixMilli(1<<40-2) // the milliseconds wrap around in between
	for member := range kv.MemberID(3) {
		for life := range 4 {
			ids := newIDs(0xabcd_0000_0000_0001+member, start.Add(time.Duration(life)*time.Millisecond))
			for range 256 {
				id := ids.draw()
				if seen[id] {
					t.Fatalf("member %v drew %x twice", member, id)
				}
				if id>>idCounted != uint64(member)+1 {
					t.Fatalf("%x is not member %v's", id, member+1)
				}
				seen[id] = true
			}
		}
	}
}

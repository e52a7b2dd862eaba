package api

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/util/queue"
)

// timed are streams that note when they were woken.
type timed struct {
	t      *testing.T
	rounds *rounds
	began  time.Time
	mu     sync.Mutex // guards the field below
	woken  []string   // each as "stream@when"
}

func newTimed(t *testing.T) *timed { return &timed{t: t, rounds: newRounds(), began: time.Now()} }

func (s *timed) stream(name string) *waker {
	return &waker{of: s.rounds, wake: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.woken = append(s.woken, fmt.Sprintf("%s@%v", name, time.Since(s.began)))
	}}
}

// want looks at who has been woken since the last time, and when.
func (s *timed) want(when string, want ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := fmt.Sprint(s.woken); got != fmt.Sprint(want) {
		s.t.Errorf("%s: woken %s, want %s", when, got, want)
	}
	s.woken = nil
}

// crowd asks for as many streams as make the longest rest, which have nothing to send.
func (s *timed) crowd() {
	for range lingerMax / lingerEach {
		one := &waker{of: s.rounds, wake: func() {}}
		one.ask()
		one.rest()
	}
}

// TestRounds shows who waits for the next round and for how long. Time is simulated.
func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTimed(t)
		a, b, c := s.stream("a"), s.stream("b"), s.stream("c")
		a.ask()
		a.rest()
		a.ask()
		s.want("alone", "a@0s", "a@0s")
		b.ask()
		time.Sleep(2 * time.Millisecond)
		b.rest()
		b.ask()
		s.want("few, one of whom sends for long", "b@0s", "b@2ms")

		time.Sleep(8 * time.Millisecond)
		a.rest()
		b.rest()
		a.ask()
		b.ask()
		s.crowd()
		s.want("in a crowd", "a@10ms", "b@10ms")
		time.Sleep(2 * time.Millisecond)
		b.rest()
		b.ask()
		s.want("asked while another sends")
		a.rest()
		c.ask()
		s.want("not in this round yet", "c@12ms")
		c.rest()
		a.ask()
		time.Sleep(2*time.Millisecond - 1)
		s.want("while all rest")
		time.Sleep(time.Nanosecond)
		s.want("as long as it took", "b@14ms", "a@14ms")

		s.crowd()
		b.rest() // a does not read
		b.ask()
		time.Sleep(2*lingerMax - 1)
		s.want("beside one who does not read")
		time.Sleep(time.Nanosecond)
		s.want("a round at most", "b@24ms")
		s.crowd()
		time.Sleep(2 * lingerMax)
		a.rest() // of a round that is over
		b.rest()
		b.ask()
		time.Sleep(lingerMax - 1)
		s.want("after a long one")
		time.Sleep(time.Nanosecond)
		s.want("the longest rest", "b@39ms")
		b.rest()
		time.Sleep(time.Minute)
		b.ask()
		b.rest()
		s.want("long after", "b@1m0.039s")
	})
}

// TestRoundsWakeAll lets streams be asked from several sides as the watch log does, once until they rest: each is woken for each time, and soon.
func TestRoundsWakeAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, changes = 50, 400
		r := newRounds()
		var asleep [streams]atomic.Bool
		var owed, sent [streams]atomic.Int64
		var wakers [streams]*waker
		done := make(chan struct{})
		var senders sync.WaitGroup
		for i := range streams {
			wake := make(chan struct{}, 1)
			wakers[i] = &waker{of: r, wake: func() { queue.Wake(wake) }}
			asleep[i].Store(true)
			senders.Go(func() {
				for {
					select {
					case <-wake:
					case <-done:
						return
					}
					time.Sleep(time.Duration(i) * 20 * time.Microsecond)
					asleep[i].Store(true)
					sent[i].Store(owed[i].Load())
					wakers[i].rest()
				}
			})
		}
		for n := range changes {
			for i := range streams {
				owed[i].Add(1)
				if (n+i)%3 > 0 && asleep[i].Swap(false) {
					wakers[i].ask()
				}
			}
			time.Sleep(300 * time.Microsecond)
		}
		for i := range streams {
			if asleep[i].Swap(false) {
				wakers[i].ask()
			}
		}
		time.Sleep(4 * lingerMax)
		for i := range streams {
			if sent[i].Load() != changes {
				t.Errorf("stream %d has sent %d of %d", i, sent[i].Load(), changes)
			}
		}
		close(done)
		senders.Wait()
	})
}

package api

import (
	"sync"
	"time"
)

// rounds wakes the streams of watches. A change that many of them watch costs each a burst: wake-ups of three goroutines, a write, the client's
// ping and its answer, some 20 us whether it is of one event or of five. So where changes keep coming, a stream that was woken is woken again only in
// the next round, which begins when the streams of this one have sent what they had and as much time again is over: sending takes at most
// half of the time, and what comes meanwhile goes out in one burst. A stream that was not in the round does not wait, and where fewer than ten watch
// nobody does.
type rounds struct {
	mu      sync.Mutex // guards the fields below and those of its wakers; released before a stream is woken
	number  uint64     // of the round
	began   time.Time
	streams int       // woken in the round
	sending int       // of them, those that have more to send
	sent    bool      // sending was 0 since the round began
	next    time.Time // when the next round may begin
	waiting []*waker  // for the next round, each once
	spare   []*waker  // memory for waiting
	timer   *time.Timer
}

const (
	// lingerEach is how long the streams rest at most between rounds for each that was woken: twice what one takes, client included, when nothing
	// else runs. A round takes as long at most; who still sends then waits for a client, which is not to be felt by others.
	lingerEach = 50 * time.Microsecond
	// lingerMin is the shortest rest. A timer that sleeps for less is as late as that.
	lingerMin = 500 * time.Microsecond
	// lingerMax is the longest, so that an event waits no longer than twice this.
	lingerMax = 5 * time.Millisecond
)

// waker wakes one stream.
type waker struct {
	of   *rounds
	wake func()

	// Guarded by of.mu.
	woken   uint64 // the round in which it was last
	sending bool   // since then
}

func newRounds() *rounds {
	r := new(rounds)
	r.timer = time.AfterFunc(time.Hour, r.begin)
	r.timer.Stop()
	return r
}

// ask wakes the stream, now or in the next round. It is called once until the stream has sent everything.
func (w *waker) ask() {
	if w.of.admit(w, time.Now()) {
		w.wake()
	}
}

// admit tells whether w is to be woken now, in this round or a new one; otherwise it waits.
func (r *rounds) admit(w *waker, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	entered := w.woken == r.number // it has had its turn
	if len(r.waiting) == 0 && !now.Before(r.next) && (entered || r.sent) {
		r.open(now)
		entered = false
	}
	if !entered {
		r.enter(w)
		return true
	}
	if len(r.waiting) == 0 {
		r.timer.Reset(r.next.Sub(now))
	}
	r.waiting = append(r.waiting, w)
	return false
}

// begin wakes all who wait, in a new round.
func (r *rounds) begin() {
	r.mu.Lock()
	if len(r.waiting) == 0 {
		r.mu.Unlock()
		return
	}
	woken := r.waiting
	r.waiting, r.spare = r.spare[:0], nil
	r.open(time.Now())
	for _, w := range woken {
		r.enter(w)
	}
	r.mu.Unlock()
	for _, w := range woken {
		w.wake()
	}
	clear(woken)
	r.mu.Lock()
	r.spare = woken[:0]
	r.mu.Unlock()
}

// rest is called when the stream has sent everything it had, and when it ends.
func (w *waker) rest() {
	r := w.of
	r.mu.Lock()
	defer r.mu.Unlock()
	if !w.sending {
		return
	}
	w.sending = false
	if w.woken != r.number || r.sent {
		return
	}
	if r.sending--; r.sending == 0 {
		r.close(time.Now())
	}
}

// The methods below need mu.

func (r *rounds) open(now time.Time) {
	r.number++
	r.began, r.next = now, now
	r.streams, r.sending, r.sent = 0, 0, false
}

func (r *rounds) enter(w *waker) {
	w.woken, w.sending = r.number, true
	r.streams++
	r.sending++
	if !r.sent {
		r.next = r.began.Add(2 * r.lingerMost())
	}
}

// close ends the sending of the round.
func (r *rounds) close(now time.Time) {
	r.sent = true
	linger := min(now.Sub(r.began), r.lingerMost())
	if linger < lingerMin {
		linger = 0
	}
	r.next = now.Add(linger)
	if len(r.waiting) > 0 {
		r.timer.Reset(linger)
	}
}

// lingerMost is the longest rest after the round.
func (r *rounds) lingerMost() time.Duration {
	most := min(time.Duration(r.streams)*lingerEach, lingerMax)
	if most < lingerMin {
		return 0
	}
	return most
}

package cluster

import (
	"sync"
	"time"
)

// history is what clients sent and were told, and when.
type history struct {
	began time.Time

	mu        sync.Mutex // guards the fields below, and what they point to
	ops       []*op
	watchers  []*watcher
	watches   []*watch
	leases    map[int64]*leaseLife
	stale     []*op // serializable reads
	answers   int
	compacted int64 // revision up to which somebody has asked for compaction
}

func newHistory() *history {
	return &history{began: time.Now(), leases: map[int64]*leaseLife{}}
}

// now is the time since the beginning.
func (h *history) now() time.Duration { return time.Since(h.began) }

// call notes that o is sent.
func (h *history) call(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.called = h.now()
	h.ops = append(h.ops, o)
}

// answer notes what o is answered.
func (h *history) answer(o *op, got outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.answered, o.got = h.now(), got
	h.answers++
}

// count is how many requests were answered.
func (h *history) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answers
}

// told is the revision up to which every watcher has been told everything.
func (h *history) told() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := int64(1 << 62)
	for _, w := range h.watchers {
		told = min(told, w.next-1)
	}
	return told
}

// leaseLife is what is known of one lease.
type leaseLife struct {
	id, ttl int64
	granted bool // certainly
	// revoking tells from when on somebody has asked to revoke it; 0 for never.
	revoking time.Duration
	revoked  time.Duration // when that was acknowledged
	// renewals are those that were answered: when they were sent, and what was left then.
	renewals []renewal
}

// renewal is the answer to one keep-alive: the lease has ttl seconds from some moment after it was sent; 0 if it does not exist.
type renewal struct {
	sent, answered time.Duration
	ttl            int64
}

// promisedBefore is until when the lease has to live by the answers that were there when r was sent.
func (l *leaseLife) promisedBefore(r renewal) time.Duration {
	var until time.Duration
	for _, earlier := range l.renewals {
		if earlier.answered <= r.sent && earlier.ttl > 0 {
			until = max(until, earlier.until())
		}
	}
	return until
}

// until is how long a renewal certainly lasts.
func (r renewal) until() time.Duration { return r.sent + time.Duration(r.ttl)*time.Second }

// renewed notes an answer.
func (h *history) renewed(l *leaseLife, r renewal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l.renewals = append(l.renewals, r)
}

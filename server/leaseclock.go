package server

import (
	"cmp"
	"container/heap"
	"slices"
	"sync"
	"time"

	"holdfast/kv"
	"holdfast/lease"
)

// leaseClock knows when leases end. Only the leader's clock runs: on other members it holds nothing, and a new leader
// starts it with the life that is known to be left of each lease.
//
// It is told of leases by the applier (apply.Leases), of renewals by the API and of leadership by the replica.
type leaseClock struct {
	now func() time.Time
	// changed has one slot and tells the expiry loop that the next end may have moved forward.
	changed chan struct{}

	mu      sync.Mutex // guards the fields below
	running bool
	ticking chan struct{} // closed while the clock runs
	leases  map[kv.LeaseID]*lifetime
	ends    endHeap
}

// lifetime is what the clock knows of one lease.
type lifetime struct {
	lease.Lease
	// end is when the lease is over if nobody renews it.
	end time.Time
	// scheduled is the time under which the lease stands in the heap. A renewal only moves end; the heap follows when
	// scheduled comes up. Invariant: scheduled <= end, or at of the next try to revoke.
	scheduled time.Time
	at        int // place in the heap
	// revoking is set once the lease was found to be over; it is not renewed any more.
	revoking bool
	// gone is closed when the lease is revoked, or the clock stops or starts anew.
	gone chan struct{}
	// checkpointed is when the remaining life was last agreed on, or the lease renewed.
	checkpointed time.Time
}

func newLeaseClock(now func() time.Time) *leaseClock {
	return &leaseClock{now: now, changed: make(chan struct{}, 1), ticking: make(chan struct{})}
}

// start makes the clock run with the leases that all returns. extend is added to each life: clients that renewed at the
// last leader must have time to find this one. all is asked while the clock holds the applier's news back, so that no
// lease falls between the two.
func (c *leaseClock) start(all func() []lease.Lease, extend time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	leases := all()
	if !c.running {
		close(c.ticking)
	}
	c.letGo()
	c.running, c.leases, c.ends = true, make(map[kv.LeaseID]*lifetime, len(leases)), nil
	now := c.now()
	for _, l := range leases {
		c.add(l, now, now.Add(left(l)+extend))
	}
	c.wake()
}

// left is the life that a lease has left as far as the members agreed on it.
func left(l lease.Lease) time.Duration {
	if l.Remaining > 0 {
		return time.Duration(l.Remaining) * time.Second
	}
	return time.Duration(l.TTL) * time.Second
}

// stop makes the clock forget everything. Who waits for a lease to go is let go.
func (c *leaseClock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGo()
	if c.running {
		c.ticking = make(chan struct{})
	}
	c.running, c.leases, c.ends = false, nil, nil
}

// letGo ends the waiting for every lease: this clock will not tell when it has gone. Called with mu held.
func (c *leaseClock) letGo() {
	for _, l := range c.leases {
		close(l.gone)
	}
}

// add puts a lease on the clock. Called with mu held.
func (c *leaseClock) add(l lease.Lease, now, end time.Time) {
	t := &lifetime{Lease: l, end: end, scheduled: end, gone: make(chan struct{}), checkpointed: now}
	c.leases[l.ID] = t
	heap.Push(&c.ends, t)
}

// wake tells the expiry loop to look again.
func (c *leaseClock) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Granted starts the life of a lease.
func (c *leaseClock) Granted(l lease.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running || c.leases[l.ID] != nil { // it may have been there when the clock started
		return
	}
	now := c.now()
	c.add(l, now, now.Add(left(l)))
	if c.ends[0].ID == l.ID {
		c.wake()
	}
}

// Revoked ends the life of a lease.
func (c *leaseClock) Revoked(id kv.LeaseID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.leases[id]; t != nil {
		heap.Remove(&c.ends, t.at)
		delete(c.leases, id)
		close(t.gone)
	}
}

// Checkpointed notes that the remaining life of a lease was agreed on.
func (c *leaseClock) Checkpointed(l lease.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.leases[l.ID]; t != nil {
		t.Remaining = l.Remaining
	}
}

// renewal is the outcome of renew.
type renewal struct {
	lease.Lease // as it was before; with Remaining set, the members must be told that it lives on
	// running tells whether this member's clock decides, found whether there is such a lease on it.
	running, found bool
	// over is set for a lease that is past its end and being revoked: wait for it to be closed, then ask again.
	over <-chan struct{}
}

// renew gives a lease its full life again.
func (c *leaseClock) renew(id kv.LeaseID) renewal {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.leases[id]
	if t == nil {
		return renewal{running: c.running}
	}
	now := c.now()
	if t.revoking || !now.Before(t.end) {
		return renewal{Lease: t.Lease, running: true, found: true, over: t.gone}
	}
	t.end, t.checkpointed = now.Add(time.Duration(t.TTL)*time.Second), now
	return renewal{Lease: t.Lease, running: true, found: true}
}

// remaining is the life a lease has left, rounded down to seconds.
func (c *leaseClock) remaining(id kv.LeaseID) (seconds int64, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.leases[id]
	if t == nil {
		return 0, false
	}
	return int64(t.end.Sub(c.now()) / time.Second), true
}

// isRunning tells whether this member's clock decides.
func (c *leaseClock) isRunning() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

// runs is closed once the clock runs.
func (c *leaseClock) runs() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ticking
}

// byEnd are the leases in the order in which they end; ids break ties.
func (c *leaseClock) byEnd() []kv.LeaseID {
	c.mu.Lock()
	all := make([]lifetime, 0, len(c.leases))
	for _, t := range c.leases {
		all = append(all, lifetime{Lease: t.Lease, end: t.end})
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b lifetime) int {
		return cmp.Or(a.end.Compare(b.end), cmp.Compare(a.ID, b.ID))
	})
	ids := make([]kv.LeaseID, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	return ids
}

// revokeRetry is after how long a lease whose revocation was proposed but not applied is proposed again, as in etcd.
const revokeRetry = 3 * time.Second

// over returns up to limit leases that are past their end and marks them, and when to ask again: never if zero.
func (c *leaseClock) over(limit int) (ids []kv.LeaseID, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for len(c.ends) > 0 {
		t := c.ends[0]
		if now.Before(t.scheduled) || len(ids) == limit {
			return ids, t.scheduled
		}
		if now.Before(t.end) { // renewed since it was put here
			t.scheduled = t.end
		} else {
			ids = append(ids, t.ID)
			t.revoking, t.scheduled = true, now.Add(revokeRetry)
		}
		heap.Fix(&c.ends, 0)
	}
	return ids, time.Time{}
}

// Leases that live long are checkpointed: the members agree on what is left, so that a change of leader does not give
// them their whole life again. Shorter ones than checkpointMin are not worth an entry, as in etcd.
const (
	checkpointMin   = 5 * time.Minute
	checkpointEvery = 5 * time.Minute
	// checkpointBatch bounds one entry of checkpoints, as in etcd.
	checkpointBatch = 1000
)

// checkpoints returns the remaining lives, in seconds, that are due to be agreed on.
func (c *leaseClock) checkpoints() []lease.Lease {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var due []lease.Lease
	for _, t := range c.leases {
		remaining := t.end.Sub(now)
		if remaining <= checkpointMin || now.Sub(t.checkpointed) < checkpointEvery {
			continue
		}
		t.checkpointed = now
		due = append(due, lease.Lease{ID: t.ID, TTL: t.TTL, Remaining: int64((remaining + time.Second - 1) / time.Second)})
	}
	slices.SortFunc(due, func(a, b lease.Lease) int { return cmp.Compare(a.ID, b.ID) })
	return due
}

// endHeap orders lifetimes by when they come up.
type endHeap []*lifetime

func (h endHeap) Len() int           { return len(h) }
func (h endHeap) Less(i, j int) bool { return h[i].scheduled.Before(h[j].scheduled) }
func (h endHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push is heap.Interface's.
func (h *endHeap) Push(x any) {
	t := x.(*lifetime)
	t.at = len(*h)
	*h = append(*h, t)
}

// Pop is heap.Interface's.
func (h *endHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}

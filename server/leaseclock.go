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
	// checkpoints tells whether what is left of leases is to be agreed on.
	checkpoints bool
	// changed has one slot and tells who looks that the next end may have moved forward.
	changed chan struct{}

	mu   sync.Mutex // guards the fields below
	term uint64     // in which the clock runs; 0 while it does not
	// began is when the clock started.
	began   time.Time
	ticking chan struct{} // closed while the clock runs
	stopped chan struct{} // closed when the clock that runs stops, or starts anew
	leases  map[kv.LeaseID]*lifetime
	ends    endHeap
}

// lifetime is what the clock knows of one lease.
type lifetime struct {
	id  kv.LeaseID
	ttl time.Duration
	// end is when the lease is over if nobody renews it.
	end time.Time
	// scheduled is the time under which the lease stands in the heap. A renewal only moves end; the heap follows when
	// scheduled comes up. Invariant: nothing is to be done about the lease before scheduled.
	scheduled time.Time
	at        int // place in the heap
	// revoking is set once the lease was found to be over; it is not renewed any more.
	revoking bool
	// gone is closed when the lease is revoked, or the clock stops or starts anew.
	gone chan struct{}
	// agreed is when the remaining life was last proposed to be agreed on, or the lease renewed.
	agreed time.Time
	// shortened is set while the members may have agreed on less than the whole life: a renewal has to tell them.
	shortened bool
	// checkpoints counts how often less was proposed.
	checkpoints int
}

func newLeaseClock(now func() time.Time, checkpoints bool) *leaseClock {
	stopped := make(chan struct{})
	close(stopped)
	return &leaseClock{
		now: now, checkpoints: checkpoints, changed: make(chan struct{}, 1), ticking: make(chan struct{}), stopped: stopped,
	}
}

// start makes the clock run in a term with the leases that all returns. extend is added to each life: clients that renewed
// at the last leader must have time to find this one. all is asked while the clock holds the applier's news back, so that no
// lease falls between the two.
func (c *leaseClock) start(term uint64, all func() []lease.Lease, extend time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	leases := all()
	if c.term == 0 {
		close(c.ticking)
	}
	c.letGo()
	c.term, c.began, c.stopped = term, c.now(), make(chan struct{})
	c.leases, c.ends = make(map[kv.LeaseID]*lifetime, len(leases)), nil
	for _, l := range leases {
		c.add(l, c.began, c.began.Add(left(l)+extend))
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
	if c.term != 0 {
		c.ticking = make(chan struct{})
	}
	c.term, c.leases, c.ends = 0, nil, nil
}

// letGo ends the waiting for every lease: this clock will not tell when it has gone. Called with mu held.
func (c *leaseClock) letGo() {
	if c.term != 0 {
		close(c.stopped)
	}
	for _, l := range c.leases {
		close(l.gone)
	}
}

// add puts a lease on the clock. Called with mu held.
func (c *leaseClock) add(l lease.Lease, now, end time.Time) {
	t := &lifetime{
		id: l.ID, ttl: time.Duration(l.TTL) * time.Second, end: end, gone: make(chan struct{}), agreed: now, shortened: l.Remaining > 0,
	}
	t.scheduled = c.upcoming(t)
	c.leases[l.ID] = t
	heap.Push(&c.ends, t)
}

// wake says that it is time to look again.
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
	if c.term == 0 || c.leases[l.ID] != nil { // it may have been there when the clock started
		return
	}
	now := c.now()
	c.add(l, now, now.Add(left(l)))
	if c.ends[0].id == l.ID {
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

// Checkpointed notes that the members agreed on less than the whole life of a lease. They hear it from the leader, which
// knows already, or from one before.
func (c *leaseClock) Checkpointed(l lease.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.leases[l.ID]; t != nil && l.Remaining > 0 {
		t.shortened = true
	}
}

// renewal is the outcome of renew.
type renewal struct {
	term    uint64          // in which the clock runs; 0: it does not, and nothing else is set
	stopped <-chan struct{} // closed when the clock of that term stops
	found   bool            // whether there is such a lease
	ttl     time.Duration   // its life from now on
	// over is set for a lease that is past its end and being revoked: wait for it to be closed, then ask again.
	over <-chan struct{}
	// shortened says that the members must be told that the lease has its whole life again. Once they know, checkpoints is
	// handed to whole.
	shortened   bool
	checkpoints int
}

// renew gives a lease its full life again.
func (c *leaseClock) renew(id kv.LeaseID) renewal {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.leases[id]
	if t == nil {
		return renewal{term: c.term, stopped: c.stopped}
	}
	r := renewal{
		term: c.term, stopped: c.stopped, found: true, ttl: t.ttl, shortened: t.shortened, checkpoints: t.checkpoints,
	}
	now := c.now()
	if t.revoking || !now.Before(t.end) {
		r.over = t.gone
		return r
	}
	t.end, t.agreed = now.Add(t.ttl), now
	return r
}

// whole notes that the members have agreed on the whole life of a lease, after the given number of checkpoints. One that
// was proposed since may still come.
func (c *leaseClock) whole(id kv.LeaseID, term uint64, checkpoints int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.leases[id]; t != nil && c.term == term && t.checkpoints == checkpoints {
		t.shortened = false
	}
}

// remaining is the life a lease has left, rounded down to seconds. It tells whether the clock runs and has the lease.
func (c *leaseClock) remaining(id kv.LeaseID) (seconds int64, running, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.leases[id]
	if t == nil {
		return 0, c.term != 0, false
	}
	return int64(t.end.Sub(c.now()) / time.Second), true, true
}

// isRunning tells whether this member's clock decides.
func (c *leaseClock) isRunning() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.term != 0
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
		all = append(all, lifetime{id: t.id, end: t.end})
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b lifetime) int {
		return cmp.Or(a.end.Compare(b.end), cmp.Compare(a.id, b.id))
	})
	ids := make([]kv.LeaseID, len(all))
	for i := range all {
		ids[i] = all[i].id
	}
	return ids
}

const (
	// revokeRetry is after how long a lease whose revocation was proposed but not applied is proposed again, as in etcd.
	revokeRetry = 3 * time.Second
	// lookMax bounds how many leases one look goes over while renewals wait: some milliseconds.
	lookMax = 10000
)

// agenda is what is to be done about leases now.
type agenda struct {
	over        []kv.LeaseID  // to be revoked
	checkpoints []lease.Lease // what is left of their lives is to be agreed on
	next        time.Time     // when to look again: never if zero
}

// look says what is to be done and notes that it is being done. It returns no more than revokeBatch leases that are over
// and checkpointBatch that are not; who carries less out calls again.
func (c *leaseClock) look() (a agenda) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for range min(len(c.ends), lookMax) {
		t := c.ends[0]
		if now.Before(t.scheduled) || len(a.over) == revokeBatch || len(a.checkpoints) == checkpointBatch {
			break
		}
		switch at, worth := c.nextCheckpoint(t); {
		case !now.Before(t.end):
			a.over = append(a.over, t.id)
			t.revoking, t.scheduled = true, now.Add(revokeRetry)
		case worth && !now.Before(at):
			a.checkpoints = append(a.checkpoints, lease.Lease{ID: t.id, Remaining: int64((t.end.Sub(now) + time.Second - 1) / time.Second)})
			t.agreed, t.shortened = now, true
			t.checkpoints++
			t.scheduled = c.upcoming(t)
		default: // renewed since it was put here
			t.scheduled = c.upcoming(t)
		}
		heap.Fix(&c.ends, 0)
	}
	if len(c.ends) > 0 {
		a.next = c.ends[0].scheduled
	}
	return a
}

// again makes leases that are over come up after a pause: their revocation could not be proposed.
func (c *leaseClock) again(ids []kv.LeaseID, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.now().Add(pause)
	for _, id := range ids {
		if t := c.leases[id]; t != nil && at.Before(t.scheduled) {
			t.scheduled = at
			heap.Fix(&c.ends, t.at)
		}
	}
}

// Without checkpoints a change of leader gives each lease its whole life again. The members agree on what is left of one
// that nobody has renewed for a while: of a long one every five minutes, as in etcd, of a shorter one when two thirds of it
// are over. Clients renew earlier, and a lease that is kept alive costs no entry.
const (
	checkpointEvery = 5 * time.Minute
	// checkpointMin is what must be left of a life to be worth an entry.
	checkpointMin = 5 * time.Second
	// checkpointStep is the step in which checkpoints fall due, so that many share an entry.
	checkpointStep = time.Second
	// checkpointBatch bounds one entry of checkpoints, as in etcd.
	checkpointBatch = 1000
)

// nextCheckpoint is when the members should agree on what is left of a lease, if that is worth it. Called with mu held.
func (c *leaseClock) nextCheckpoint(t *lifetime) (at time.Time, worth bool) {
	life := t.end.Sub(t.agreed)
	after := min(checkpointEvery, life/3*2)
	since := t.agreed.Add(after + checkpointStep - 1).Sub(c.began)
	at = c.began.Add(since - since%checkpointStep)
	return at, c.checkpoints && t.end.Sub(at) >= checkpointMin
}

// upcoming is when something is to be done about a lease. Called with mu held.
func (c *leaseClock) upcoming(t *lifetime) time.Time {
	if at, worth := c.nextCheckpoint(t); worth {
		return at
	}
	return t.end
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

package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/apply"
	"holdfast/kv"
)

// ids names requests so that no other, of this member or another, of this life or an earlier one, has the same name
// while anyone waits for it. A name is etcd's:
//
//	the member's id, its last 2 bytes · milliseconds since 1970 at the start, the last 5 bytes · a counter, 1 byte
//
// The counter goes on into the milliseconds: a member that starts again repeats none unless it made more than 256 in each
// millisecond of its last life, or its clock was set back.
type ids struct {
	member uint64 // in its place
	last   atomic.Uint64
}

// idCounted are the bits of a name that the members' ids leave.
const idCounted = 48

func newIDs(member kv.MemberID, now time.Time) *ids {
	i := &ids{member: uint64(member) << idCounted}
	i.last.Store(uint64(now.UnixMilli()) << 8)
	return i
}

func (i *ids) draw() uint64 { return i.member | i.last.Add(1)&(1<<idCounted-1) }

// waiterShards spreads the lock of the waiters: at a thousand clients each request takes it twice.
const waiterShards = 16

// waiters are the requests of this member that wait for their entry to be applied.
type waiters struct {
	shards [waiterShards]waiterShard
	pool   sync.Pool // of *waiter
}

type waiterShard struct {
	mu      sync.Mutex // guards the fields below
	waiting map[uint64]*waiter
	closed  error    // answers whoever begins to wait; nil while results come
	_       [24]byte // keeps neighbours off one cache line
}

// waiter is one waiting request. done has room for its one result, so that delivering never waits.
//
// It is also the context of its proposal: that ends with the caller's, or when the time of the request is over, and a proposal
// whose context has ended does not become an entry any more.
type waiter struct {
	context.Context // the caller's
	done            chan apply.Result
	began           time.Time
	deadline        time.Time // zero: none
	over            atomic.Bool
}

// Err implements context.Context.
func (w *waiter) Err() error {
	if w.over.Load() {
		return context.DeadlineExceeded
	}
	return w.Context.Err()
}

func newWaiters() *waiters {
	w := &waiters{pool: sync.Pool{New: func() any { return &waiter{done: make(chan apply.Result, 1)} }}}
	for i := range w.shards {
		w.shards[i].waiting = map[uint64]*waiter{}
	}
	return w
}

func (w *waiters) shard(id uint64) *waiterShard { return &w.shards[id%waiterShards] }

// add makes id wait, from now until deadline; zero is without end.
func (w *waiters) add(ctx context.Context, id uint64, now, deadline time.Time) *waiter {
	one := w.pool.Get().(*waiter)
	one.Context, one.began, one.deadline = ctx, now, deadline
	s := w.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		one.end(s.closed)
		return one
	}
	s.waiting[id] = one
	return one
}

// waits tells whether a request with the id waits here.
func (w *waiters) waits(id uint64) bool {
	s := w.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[id] != nil
}

// count is the number of requests that wait.
func (w *waiters) count() (n int) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		n += len(s.waiting)
		s.mu.Unlock()
	}
	return n
}

// deliver hands a result to whoever waits for it.
func (w *waiters) deliver(r apply.Result) {
	if r.ID == 0 {
		return
	}
	s := w.shard(r.ID)
	s.mu.Lock()
	one := s.waiting[r.ID]
	delete(s.waiting, r.ID)
	s.mu.Unlock()
	if one != nil {
		one.done <- r
	}
}

// leave ends the wait of a request that gave up. Its waiter is not used again: a result may be on its way.
func (w *waiters) leave(id uint64) {
	s := w.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

// free gives the waiter of an answered request back, unless its proposal may still be somewhere.
func (w *waiters) free(one *waiter) {
	if !one.over.Load() {
		one.Context = nil
		w.pool.Put(one)
	}
}

// expire answers every request whose deadline has passed.
func (w *waiters) expire(now time.Time, why error) {
	w.end(why, func(one *waiter) bool { return !one.deadline.IsZero() && now.After(one.deadline) })
}

// settle answers every request that began before then, and returns how many there were.
func (w *waiters) settle(then time.Time, why error) int {
	return w.end(why, func(one *waiter) bool { return one.began.Before(then) })
}

// end answers the requests that are chosen, whose proposals do not become entries any more if they still can be kept from it.
func (w *waiters) end(why error, chosen func(*waiter) bool) (n int) {
	for i := range w.shards {
		for _, one := range w.shards[i].remove(chosen) {
			one.end(why)
			n++
		}
	}
	return n
}

// end answers a request whose result does not come.
func (w *waiter) end(why error) {
	w.over.Store(true)
	w.done <- apply.Result{Err: why}
}

// close answers every request there is and will be: no more results come. A channel that all of them watched would be one lock
// for all of them, taken twice by each.
func (w *waiters) close(why error) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		s.closed = why
		s.mu.Unlock()
	}
	w.end(why, func(*waiter) bool { return true })
}

func (s *waiterShard) remove(chosen func(*waiter) bool) (removed []*waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, one := range s.waiting {
		if chosen(one) {
			removed = append(removed, one)
			delete(s.waiting, id)
		}
	}
	return removed
}

package watch

import (
	"slices"
	"sort"
	"sync/atomic"

	"holdfast/kv"
)

// watcher is one watch of a client.
type watcher struct {
	id     int64
	notify bool        // wants progress_notify
	start  kv.Revision // as asked for: until the head reaches it there is no progress to tell

	// ended says that the watcher receives nothing any more. Set under Hub.mu, read without.
	ended atomic.Bool
	// told says that events were sent since the last tick.
	told atomic.Bool

	// The rest is guarded by Hub.mu.
	cursor *cursor // nil once ended
	// telling says that a progress answer is queued.
	telling bool

	// from is the first revision still due, where it lies behind the cursor's. Only the stream's Next changes it once
	// the watcher is there.
	from kv.Revision
}

// state is where a cursor stands.
type state uint8

const (
	idle   state = iota // live, everything delivered; in group.idle
	ready               // live, hits wait; in Stream.ready
	inHand              // the stream's Next works with it
	behind              // reads the history or older parts of the log; in Stream.behind
	unborn              // will be behind once its creation has been answered
	closed              // belongs nowhere any more; still in a list, it is skipped
)

// cursor is a position in the sequence of all events, shared by watchers of one stream and group. Hub.mu guards it;
// what is marked so belongs to the stream's Next while the cursor is in hand.
//
//	Invariant: every event below next has been handed to its watchers, those in held excepted.
type cursor struct {
	stream *Stream
	group  *group
	at     int // place in Stream.cursors
	state  state
	// live cursors follow the hits of their group; a stream has at most one per group.
	live bool

	// watchers is never changed below its length: Next reads it without the lock.
	watchers []*watcher

	idleAt int    // place in group.idle while idle
	pos    uint64 // number of the next hit while live and not idle
	next   kv.Rev // in hand: Next's. The revision of that hit at most; while behind, the place to read at

	// held are the matches of the revision next lies in, while a part of it is still to be read. Next's.
	held []*item
	// running says that a fragment of the revision has been sent and the last one has not. Next's.
	running bool
}

func (c *cursor) add(w *watcher) {
	w.cursor = c
	c.watchers = append(c.watchers, w)
}

// remove takes w out. The others move to a new slice, the old one may be in use.
func (c *cursor) remove(w *watcher) {
	w.cursor = nil
	i := slices.Index(c.watchers, w)
	c.watchers = slices.Concat(c.watchers[:i], c.watchers[i+1:])
}

// awaits tells whether it follows the log and has not pulled all that is there for it, and the first revision of that.
func (c *cursor) awaits() (rev kv.Revision, waits bool) {
	g := c.group
	if !c.live || c.state == idle || c.pos < g.base || c.pos >= g.end() {
		return 0, false
	}
	return g.hits[c.pos-g.base].rev, true
}

// order keeps cursors by their position, the one furthest behind first.
type order []*cursor

func (o *order) add(c *cursor) {
	*o = slices.Insert(*o, o.find(kv.Rev{Main: c.next.Main, Sub: c.next.Sub + 1}), c)
}

// find gives the place of the first cursor at at or beyond.
func (o order) find(at kv.Rev) int {
	return sort.Search(len(o), func(i int) bool { return !o[i].next.Less(at) })
}

// take removes the cursor at place i.
func (o *order) take(i int) *cursor {
	c := (*o)[i]
	if i == 0 { // of ten thousand in step each goes from the front to the end; do not move the others
		(*o)[0] = nil
		*o = (*o)[1:]
		return c
	}
	*o = slices.Delete(*o, i, i+1)
	return c
}

// queue is a first-in-first-out list.
type queue[T any] struct {
	items []T
	start int
}

func (q *queue[T]) len() int { return len(q.items) - q.start }

func (q *queue[T]) push(x T) { q.items = append(q.items, x) }

func (q *queue[T]) front() *T { return &q.items[q.start] }

func (q *queue[T]) pop() T {
	var zero T
	x := q.items[q.start]
	q.items[q.start] = zero
	q.start++
	switch {
	case q.start == len(q.items):
		q.items, q.start = q.items[:0], 0
	case q.start > len(q.items)/2 && q.start > queueSlack:
		n := copy(q.items, q.items[q.start:])
		clear(q.items[n:])
		q.items, q.start = q.items[:n], 0
	}
	return x
}

// queueSlack is how many taken places a queue may carry before it moves what is left to the front.
const queueSlack = 64

// unpop puts back what was popped last.
func (q *queue[T]) unpop(x T) {
	if q.start > 0 {
		q.start--
		q.items[q.start] = x
		return
	}
	q.items = slices.Insert(q.items, 0, x)
}

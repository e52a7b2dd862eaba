package replica

import (
	"context"
	"sort"
	"sync"
	"sync/atomic"
)

// appliedGate lets callers wait until an index is applied.
type appliedGate struct {
	reached atomic.Uint64

	mu      sync.Mutex // guards the fields below
	waiting []gate     // by index, no two with the same
	stopped bool
}

// gate opens when index is applied. All who wait for the same index share it.
type gate struct {
	index uint64
	open  chan struct{}
}

func newAppliedGate(index uint64) *appliedGate {
	g := &appliedGate{}
	g.reached.Store(index)
	return g
}

func (g *appliedGate) index() uint64 { return g.reached.Load() }

// wait returns a channel that is closed when index is applied or the replica has stopped; nil when there is nothing to
// wait for.
func (g *appliedGate) wait(index uint64) <-chan struct{} {
	if g.index() >= index {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.index() >= index || g.stopped {
		return nil
	}
	at := len(g.waiting)
	if at > 0 && g.waiting[at-1].index >= index { // mostly indexes are asked for in rising order
		at = sort.Search(at, func(i int) bool { return g.waiting[i].index >= index })
		if g.waiting[at].index == index {
			return g.waiting[at].open
		}
	}
	g.waiting = append(g.waiting, gate{})
	copy(g.waiting[at+1:], g.waiting[at:])
	g.waiting[at] = gate{index: index, open: make(chan struct{})}
	return g.waiting[at].open
}

// advance says that index is applied.
func (g *appliedGate) advance(index uint64) {
	g.reached.Store(index)
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for n < len(g.waiting) && g.waiting[n].index <= index {
		close(g.waiting[n].open)
		n++
	}
	g.waiting = append(g.waiting[:0], g.waiting[n:]...)
}

// stop lets everyone go.
func (g *appliedGate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	for _, w := range g.waiting {
		close(w.open)
	}
	g.waiting = nil
}

// WaitApplied returns when the machine has applied index. It costs next to nothing when it has.
func (r *Replica) WaitApplied(ctx context.Context, index uint64) error {
	open := r.applied.wait(index)
	if open == nil {
		return r.appliedOrStopped(index)
	}
	select {
	case <-open:
		return r.appliedOrStopped(index)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Replica) appliedOrStopped(index uint64) error {
	if r.applied.index() >= index {
		return nil
	}
	return r.end.err()
}

// broadcast tells many at once that something has changed.
type broadcast struct {
	mu sync.Mutex // guards the field below
	c  chan struct{}
}

func newBroadcast() *broadcast { return &broadcast{c: make(chan struct{})} }

// next returns a channel that is closed at the next tell.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.c)
	b.c = make(chan struct{})
}

// end is the one-way door from running to stopped.
type end struct {
	done chan struct{}
	once sync.Once
}

func newEnd() *end { return &end{done: make(chan struct{})} }

func (e *end) reach() { e.once.Do(func() { close(e.done) }) }

// err is ErrStopped once the end is reached.
func (e *end) err() error {
	select {
	case <-e.done:
		return ErrStopped
	default:
		return nil
	}
}

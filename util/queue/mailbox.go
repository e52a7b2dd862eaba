// Package queue holds the lists that carry work from one goroutine to another.
//
// A Mailbox never refuses and never blocks its senders: it is for places where something else bounds what can be
// under way (raft's own limits, a counted queue in front). Where nothing else does, a bounded queue is the right thing.
//
//	Shape   a slice behind a mutex, and a one-slot channel that says "look"
package queue

import "sync"

// Mailbox is an unbounded list that many goroutines fill and one empties.
type Mailbox[T any] struct {
	wake chan<- struct{}

	mu    sync.Mutex // guards the field below; held for a few instructions only
	items []T
}

// NewMailbox returns an empty mailbox. It puts a token into wake when it stops being empty, unless one is there already;
// wake has one slot and may be shared by several mailboxes of the same reader.
func NewMailbox[T any](wake chan<- struct{}) *Mailbox[T] {
	if cap(wake) != 1 {
		panic("queue: the wake channel of a mailbox has one slot")
	}
	return &Mailbox[T]{wake: wake}
}

// Put adds items at the end.
func (m *Mailbox[T]) Put(items ...T) {
	if len(items) == 0 {
		return
	}
	m.mu.Lock()
	first := len(m.items) == 0
	m.items = append(m.items, items...)
	m.mu.Unlock()
	if first {
		Wake(m.wake)
	}
}

// Take returns everything that waits, oldest first, and leaves the mailbox empty. It keeps spare's memory for what comes
// next: a reader that passes the slice of its previous Take, done with, makes the two take turns without allocating.
func (m *Mailbox[T]) Take(spare []T) []T {
	if cap(spare) > spareItems {
		spare = nil
	}
	clear(spare)
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	m.items = spare[:0]
	return items
}

// spareItems is the most whose memory is kept for later: a list that was long once need not stay so.
const spareItems = 4096

// Wake puts a token into a one-slot channel unless one is there.
func Wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

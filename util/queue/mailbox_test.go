package queue

import (
	"slices"
	"sync"
	"testing"
)

// TestMailboxOrder checks that items leave in the order they came and that a token announces them.
func TestMailboxOrder(t *testing.T) {
	wake := make(chan struct{}, 1)
	m := NewMailbox[int](wake)
	m.Put(1, 2)
	m.Put(3)
	select {
	case <-wake:
	default:
		t.Fatal("no token after Put into an empty mailbox")
	}
	first := m.Take(nil)
	if want := []int{1, 2, 3}; !slices.Equal(first, want) {
		t.Fatalf("took %v, want %v", first, want)
	}
	if got := m.Take(nil); len(got) != 0 {
		t.Fatalf("took %v from an empty mailbox", got)
	}
	select {
	case <-wake:
		t.Fatal("a second token for items already announced")
	default:
	}
}

// TestMailboxSpare checks that memory handed back is used again and that nothing old shows through.
func TestMailboxSpare(t *testing.T) {
	m := NewMailbox[int](make(chan struct{}, 1))
	m.Put(1, 2, 3)
	spare := m.Take(nil)
	if got := m.Take(spare); len(got) != 0 {
		t.Fatalf("took %v, want nothing", got)
	}
	m.Put(7)
	got := m.Take(nil)
	if !slices.Equal(got, []int{7}) || cap(got) != cap(spare) {
		t.Fatalf("took %v with room for %d, want [7] with room for %d", got, cap(got), cap(spare))
	}
	if !slices.Equal(got[:3], []int{7, 0, 0}) {
		t.Fatalf("old items are still referenced: %v", got[:3])
	}
}

// TestMailboxMany checks, under the race detector, that nothing is lost between many senders and one reader that sleeps
// whenever there is no token.
func TestMailboxMany(t *testing.T) {
	const senders, each = 8, 500
	wake := make(chan struct{}, 1)
	m := NewMailbox[int](wake)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				m.Put(s*each + i)
			}
		})
	}
	seen := make(map[int]bool)
	var batch []int
	for len(seen) < senders*each {
		<-wake
		batch = m.Take(batch)
		for _, v := range batch {
			if seen[v] {
				t.Fatalf("item %d came twice", v)
			}
			seen[v] = true
		}
	}
	wg.Wait()
}

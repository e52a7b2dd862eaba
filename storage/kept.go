package storage

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"holdfast/kv"
)

// kept are iterators of one generation that found a row and wait for the next one to look for. To open and close an iterator, and the tables of level 0 in
// it, is an eighth of what it takes to find a row among a million: 1.4 of 11.9 us (BenchmarkGet/cold in mvcc).
//
// They hold no reference on the generation: it closes them when nobody holds one any more. What they see they keep from going, memtables and
// tables, so those that wait are closed when something newer is asked for, and by LetGo.
type kept struct {
	mu   sync.Mutex // guards the fields below; released before anything is opened or closed
	mark kv.Revision
	// Invariant: each was opened for mark, and stands without an error.
	iters []*Iter
}

// keptPerProcessor is how many iterators wait for each processor at most: those that search at once, and those whose search waits for the disk. Each
// holds a block of every level, some 100 KB.
const keptPerProcessor = 2

// Lookup returns an iterator on t for SeekBody and SeekBodyVersion alone. It may have been used before. mark says what it must show at least:
// whoever knows of a mark learned of it after all that belongs to it had been committed, and higher marks show more. It may show more than it must.
func (s *Store) Lookup(t Table, mark kv.Revision) (*Iter, error) {
	g, err := s.enter()
	if err != nil {
		return nil, err
	}
	i, stale := g.kept.take(mark)
	if err := closeKept(stale); err != nil {
		g.release()
		return nil, err
	}
	if i != nil {
		i.g, i.t = g, t
		return i, nil
	}
	i = iters.Get().(*Iter)
	// The mark was known before the iterator is opened, so the iterator shows what belongs to it.
	i.it, err = g.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		iters.Put(i)
		g.release()
		return nil, fmt.Errorf("look into %s: %w", t, err)
	}
	i.g, i.t, i.begun, i.lookup, i.mark = g, t, false, true, mark
	return i, nil
}

// LetGo closes the iterators that wait to be used again. It is to be called now and then, so that what they see goes when nobody reads.
func (s *Store) LetGo() error {
	g, err := s.enter()
	if err != nil {
		return err
	}
	defer g.release()
	return closeKept(g.kept.takeAll())
}

// take returns one that shows mark, nil if there is none, or those that are to be closed.
func (k *kept) take(mark kv.Revision) (i *Iter, stale []*Iter) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if mark > k.mark {
		stale, k.iters, k.mark = k.iters, nil, mark
		return nil, stale
	}
	if n := len(k.iters); n > 0 {
		i, k.iters[n-1] = k.iters[n-1], nil
		k.iters = k.iters[:n-1]
	}
	return i, nil
}

// put keeps i, which then belongs to whoever takes it next, and tells whether it does. The caller holds a reference on the generation.
func (k *kept) put(i *Iter) bool {
	if i.it.Error() != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if i.mark != k.mark || len(k.iters) >= keptPerProcessor*runtime.GOMAXPROCS(0) {
		return false
	}
	i.g = nil
	k.iters = append(k.iters, i)
	return true
}

func (k *kept) takeAll() []*Iter {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := k.iters
	k.iters = nil
	return all
}

// closeKept closes iterators that nobody uses.
func closeKept(all []*Iter) error {
	var failed []error
	for _, i := range all {
		if err := i.end(); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

package watch

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"holdfast/kv"
)

// The history is read in blocks of about blockBytes, or less where there are many streams (Hub.share). Of these the cache keeps blocksKept, 8 MiB of small events:
// streams that catch up at the same time run in a convoy, the first reading and the others finding the block, so a
// few blocks do.
const blocksKept = 32

// blockCache reads blocks of the history; those who need the same one at about the same time share a read.
type blockCache struct {
	history History
	reads   atomic.Int64

	mu     sync.Mutex // guards the field below; released before a read
	loaded []*loading // the most recently used last
}

// loading is a block that is being read or has been.
type loading struct {
	block block
	done  chan struct{} // closed once block, or err, is there
	err   error
}

func newBlockCache(h History) *blockCache { return &blockCache{history: h} }

// read gives a block that holds at, reading it unless the cache has it. It reads no further than upTo, and some maxBytes.
func (c *blockCache) read(at kv.Rev, upTo kv.Revision, maxBytes int, withPrev bool) (*block, error) {
	l, mine := c.claim(at, withPrev)
	if !mine {
		<-l.done
		return &l.block, l.err
	}
	l.err = c.fill(&l.block, upTo, maxBytes)
	if l.err != nil {
		c.forget(l)
	}
	close(l.done)
	return &l.block, l.err
}

// claim finds a block that holds at, or makes one that the caller must fill.
func (c *blockCache) claim(at kv.Rev, withPrev bool) (l *loading, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, l := range c.loaded {
		if l.serves(at, withPrev) {
			c.loaded = append(slices.Delete(c.loaded, i, i+1), l)
			return l, false
		}
	}
	if len(c.loaded) == blocksKept {
		c.loaded = slices.Delete(c.loaded, 0, 1)
	}
	l = &loading{block: block{from: at, withPrev: withPrev}, done: make(chan struct{})}
	c.loaded = append(c.loaded, l)
	return l, true
}

func (l *loading) serves(at kv.Rev, withPrev bool) bool {
	if withPrev && !l.block.withPrev {
		return false
	}
	if l.block.from == at {
		return true
	}
	select {
	case <-l.done:
		return l.err == nil && l.block.contains(at)
	default:
		return false // how far it will reach is not known yet
	}
}

func (c *blockCache) forget(l *loading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.loaded, l); i >= 0 {
		c.loaded = slices.Delete(c.loaded, i, i+1)
	}
}

func (c *blockCache) fill(b *block, upTo kv.Revision, maxBytes int) error {
	c.reads.Add(1)
	events, next, err := c.history.Events(b.from, upTo, maxBytes, b.withPrev)
	if err != nil {
		return fmt.Errorf("read history from %s: %w", b.from, err)
	}
	if !b.from.Less(next) {
		panic(fmt.Sprintf("watch: history read from %s ends at %s", b.from, next))
	}
	items := make([]item, len(events))
	b.items = make([]*item, len(events))
	for i := range items {
		items[i].init(events[i])
		b.items[i] = &items[i]
	}
	b.next = next
	return nil
}

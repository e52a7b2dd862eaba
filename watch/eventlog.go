package watch

import (
	"sort"

	"holdfast/kv"
)

// The log is cut into blocks, and forgets whole blocks: sealed at blockBytes or blockItems, whichever comes first. A
// reader that catches up looks at the last, growing block item by item, so it must stay small; a log of any useful
// size still has many blocks, so little is forgotten at a time.
const (
	blockBytes = 256 << 10
	blockItems = 512
)

// eventLog keeps the newest events, all of them, in memory of a bounded size.
//
//	Invariant: its blocks follow each other without a gap, and the last one ends at the head of the log.
type eventLog struct {
	limit  int // bytes
	bytes  int
	blocks []*block
	open   *block // the last of blocks if it still grows, else nil
	begun  int    // blocks that were ever begun
}

// first is the oldest revision in the log, or the one after head if the log is empty.
func (l *eventLog) first(head kv.Revision) kv.Revision {
	if len(l.blocks) == 0 {
		return head + 1
	}
	return l.blocks[0].from.Main
}

// growing gives the block that takes the items of rev, the revision after the head.
func (l *eventLog) growing(rev kv.Revision) *block {
	if l.open == nil {
		l.open = &block{from: kv.Rev{Main: rev}, next: kv.Rev{Main: rev}}
		l.add(l.open)
	}
	return l.open
}

// charge adds n bytes to the growing block.
func (l *eventLog) charge(n int) {
	l.open.bytes += n
	l.bytes += n
}

// finish ends the revision rev, the last in the growing block.
func (l *eventLog) finish(rev kv.Revision) {
	l.open.next = kv.Rev{Main: rev + 1}
	// A small log is cut finer than a large one, so that what it forgets at a time stays a fraction of it.
	if l.open.bytes >= min(blockBytes, l.limit/8) || len(l.open.items) >= blockItems {
		l.open = nil
	}
}

// addLarge records a revision whose events are not kept in memory.
func (l *eventLog) addLarge(rev kv.Revision) {
	l.open = nil
	b := &block{from: kv.Rev{Main: rev}, next: kv.Rev{Main: rev + 1}, large: true, bytes: itemBytes}
	l.add(b)
	l.bytes += b.bytes
}

func (l *eventLog) add(b *block) {
	l.blocks = append(l.blocks, b)
	l.begun++
}

// trim forgets the oldest blocks, but none with revision from or a later one, until the log has at most so many bytes, and with them the hits that
// refer to them.
func (l *eventLog) trim(most int, from kv.Revision) {
	n := 0
	for l.bytes > most && n < len(l.blocks) && l.blocks[n].next.Main <= from {
		l.forget(l.blocks[n])
		n++
	}
	l.drop(n)
}

// clear forgets everything.
func (l *eventLog) clear() {
	for _, b := range l.blocks {
		l.forget(b)
	}
	l.drop(len(l.blocks))
}

func (l *eventLog) forget(b *block) {
	for _, g := range b.groups {
		g.forget(b.next.Main)
		if g.listed == b {
			g.listed = nil // a quiet group must not keep a block alive
		}
	}
	b.groups = nil
	l.bytes -= b.bytes
	if b == l.open {
		l.open = nil
	}
}

func (l *eventLog) drop(n int) {
	clear(l.blocks[:n])
	l.blocks = l.blocks[n:]
	if len(l.blocks) == 0 {
		l.blocks = nil
	}
}

// find gives the block that holds at, or nil if the log does not reach there.
func (l *eventLog) find(at kv.Rev) *block {
	i := sort.Search(len(l.blocks), func(i int) bool { return at.Less(l.blocks[i].next) })
	if i == len(l.blocks) || !l.blocks[i].contains(at) {
		return nil
	}
	return l.blocks[i]
}

// view shows b as it is now.
func (l *eventLog) view(b *block) view {
	v := view{items: b.items, next: b.next}
	if b != l.open {
		v.sealed = b
	}
	return v
}

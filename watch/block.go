package watch

import (
	"bytes"
	"slices"
	"sort"
	"sync"

	"holdfast/kv"
)

// block is a run of neighbouring events: a piece of the log, or one read of the history.
type block struct {
	// The block holds every event of [from, next). In the log both lie on revision boundaries; the history may
	// end a block within a revision.
	from, next kv.Rev
	items      []*item // in the order of their revisions

	// large marks a revision of the log whose events are not in memory; the block has no items.
	large bool
	// withPrev tells that items of the history carry the previous KeyValue. Those of the log do, unless it is bare.
	withPrev bool
	// bare marks a block of the log with an item that lacks its previous KeyValue. Who wants these reads the history.
	bare bool
	// bytes is the memory the block stands for: items, encodings asked for, and the hits that refer to it.
	bytes int
	// groups are those with hits on the block's items: they forget them when the block leaves the log.
	groups []*group

	sorting sync.Once
	byKey   []int32 // places in items, by key and then by place
}

// view is what a reader sees of a block: the block may grow behind its back, the view does not.
type view struct {
	items []*item
	next  kv.Rev
	// sealed is the block if it grows no more, else nil.
	sealed *block
}

func (b *block) contains(at kv.Rev) bool { return !at.Less(b.from) && at.Less(b.next) }

// match gives the items from at on that are for g, in order. In a sealed block it costs the logarithm of the block
// and the matches: after a restart thousands of watchers come with old revisions and go through the same blocks.
func (v view) match(g *group, at kv.Rev) []*item {
	var found []*item
	take := func(it *item) {
		if !it.Rev.Less(at) && g.wants(it) {
			found = append(found, it)
		}
	}
	if v.sealed == nil {
		for _, it := range v.items {
			if g.span.Contains(it.Key) {
				take(it)
			}
		}
		return found
	}
	for _, i := range v.sealed.places(g.span) {
		take(v.items[i])
	}
	return found
}

// places gives the places of the items whose key lies in span, in ascending order. The block must be sealed.
func (b *block) places(span kv.KeyRange) []int32 {
	b.sorting.Do(b.sort)
	lo, hi := span.Bounds()
	from := b.firstPlace(lo)
	to := len(b.byKey)
	if hi != nil {
		to = b.firstPlace(hi)
	}
	if span.IsSingle() || from >= to {
		return b.byKey[from:max(from, to)]
	}
	places := slices.Clone(b.byKey[from:to])
	slices.Sort(places)
	return places
}

// firstPlace finds the first entry of byKey whose key is key or comes after it.
func (b *block) firstPlace(key []byte) int {
	return sort.Search(len(b.byKey), func(i int) bool {
		return bytes.Compare(b.items[b.byKey[i]].Key, key) >= 0
	})
}

func (b *block) sort() {
	b.byKey = make([]int32, len(b.items))
	for i := range b.byKey {
		b.byKey[i] = int32(i)
	}
	slices.SortFunc(b.byKey, func(i, j int32) int {
		if c := bytes.Compare(b.items[i].Key, b.items[j].Key); c != 0 {
			return c
		}
		return int(i - j)
	})
}

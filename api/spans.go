package api

import (
	"cmp"
	"slices"
	"sort"

	"holdfast/kv"
)

// spans are a set of keys: intervals in order that neither meet nor touch. A transaction may delete a hundred thousand
// ranges and put as many keys; asking each for each would take minutes.
type spans []span

// span holds the keys from lo on, below hi.
type span struct{ lo, hi string }

// deletedBy is what operations delete themselves, without those nested in them. A range without an upper bound is left
// out, see writes.
func deletedBy(ops []kv.Op) spans {
	var s spans
	for i := range ops {
		d := ops[i].DeleteRange
		if d == nil || d.IsFrom() || d.IsEmpty() {
			continue
		}
		lo, hi := d.Bounds()
		s = append(s, span{string(lo), string(hi)})
	}
	slices.SortFunc(s, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	return s.and(nil)
}

// contain tells whether key is one of the set.
func (s spans) contain(key string) bool {
	at := sort.Search(len(s), func(i int) bool { return s[i].lo > key })
	return at > 0 && key < s[at-1].hi
}

// and is the set of the keys of both. Either may hold intervals that meet, if they are in order.
func (s spans) and(other spans) spans {
	all := make(spans, 0, len(s)+len(other))
	for len(s) > 0 || len(other) > 0 {
		from := &s
		if len(s) == 0 || len(other) > 0 && other[0].lo < s[0].lo {
			from = &other
		}
		next := (*from)[0]
		*from = (*from)[1:]
		if last := len(all) - 1; last >= 0 && next.lo <= all[last].hi {
			all[last].hi = max(all[last].hi, next.hi)
		} else {
			all = append(all, next)
		}
	}
	return all
}

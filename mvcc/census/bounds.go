package census

import (
	"slices"

	"holdfast/mvcc/head"
)

// bounds are the first keys of a node's entries, in order. They are never changed, so that copies of the node share them.
//
// A key is found among them by their heads, which lie side by side: the bounds themselves lie all over memory, and to fetch five of them for each
// level was most of what a new key cost the census.
type bounds struct {
	keys []string
	// heads are | the beginning that all keys but the first share, in words | for each key the word after that |. See package head. The
	// first key is not looked at: what is before the second belongs to it.
	heads []uint64
}

// boundsOf are the bounds with the keys of parts.
func boundsOf(parts ...[]string) bounds {
	b := bounds{keys: slices.Concat(parts...)}
	shared := 0
	if len(b.keys) > 1 {
		shared = head.SharedLen(b.keys[1], b.keys[len(b.keys)-1]) / head.WordBytes * head.WordBytes
	}
	b.heads = make([]uint64, 0, shared/head.WordBytes+len(b.keys))
	for i := 0; i < shared; i += head.WordBytes {
		b.heads = append(b.heads, head.Word(b.keys[1], i))
	}
	for _, key := range b.keys {
		b.heads = append(b.heads, head.Word(key, shared))
	}
	return b
}

// find returns the last entry whose bound is not above key, or with before the last one whose bound is below it.
func (b *bounds) find(key []byte, before bool) int {
	words := len(b.heads) - len(b.keys)
	for i, w := range b.heads[:words] {
		switch k := head.Word(key, i*head.WordBytes); {
		case k < w:
			return 0
		case k > w:
			return len(b.keys) - 1
		}
	}
	own, heads := head.Word(key, words*head.WordBytes), b.heads[words:]
	lo, hi := 1, len(heads)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		below := heads[mid] < own
		if heads[mid] == own {
			// These conversions do not copy.
			below = b.keys[mid] < string(key) || !before && b.keys[mid] == string(key)
		}
		if below {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

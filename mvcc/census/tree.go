package census

import (
	"math/bits"
	"slices"
)

// A node has up to nodeMax entries and, the root apart, at least nodeMin. A change copies one node of each level, half a
// kilobyte at this size; ten million keys make four levels.
const (
	nodeMax = 32
	nodeMin = 8
)

// node is one node of a B-tree with everything in the leaves. Entry i covers the keys from bounds[i] up to the next
// bound; the first bound of the tree is the empty key, which lies before all others.
//
// Invariant: bounds ascend; bounds[i] is the first bound of kids[i] and sums[i] its total.
type node struct {
	// stamp is that of the edit that made the node: this one may still change it, all others copy.
	stamp  uint64
	bounds []string // shared with the nodes it was copied from, replaced to change it
	kids   []*node  // nil in a leaf
	sums   []int64  // nil in a leaf
	blocks []block  // nil above the leaves
	// dirty has a bit for each block that the present edit counted something in.
	dirty uint64
}

// find returns the last entry whose bound is not above key, or with before the last one whose bound is below it.
func (n *node) find(key []byte, before bool) int {
	lo, hi := 1, len(n.bounds)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		// These conversions do not copy.
		if n.bounds[mid] < string(key) || !before && n.bounds[mid] == string(key) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// total is the number of keys that live below n.
func (n *node) total() (sum int64) {
	for _, s := range n.sums {
		sum += s
	}
	for i := range n.blocks {
		sum += int64(n.blocks[i].live)
	}
	return sum
}

// locate returns the block that key belongs to.
func (n *node) locate(key []byte) place { return n.walk(key, false, nil) }

// locateBefore returns the block before the one that begins at bound, which must not be the first.
func (n *node) locateBefore(bound string) place { return n.walk([]byte(bound), true, nil) }

// path is the entries taken on the way from the root to a block. Twelve levels of nodeMin hold more blocks than memory.
type path struct {
	at    [12]uint8
	depth int
}

// walk goes down to a block and writes the way into p, if that is not nil.
func (n *node) walk(key []byte, before bool, p *path) place {
	to := place{last: true}
	for depth := 0; ; depth++ {
		i := n.find(key, before)
		if p != nil {
			p.at[depth], p.depth = uint8(i), depth+1
		}
		if i+1 < len(n.bounds) {
			to.end, to.last = n.bounds[i+1], false
		}
		if n.kids == nil {
			for j := range n.blocks[:i] {
				to.before += int64(n.blocks[j].live)
			}
			to.start, to.block = n.bounds[i], n.blocks[i]
			return to
		}
		for _, s := range n.sums[:i] {
			to.before += s
		}
		n = n.kids[i]
	}
}

// own returns n if the edit with this stamp made it, else a copy that it may change.
func (n *node) own(stamp uint64) *node {
	if n.stamp == stamp {
		return n
	}
	return &node{
		stamp: stamp, bounds: n.bounds,
		kids: slices.Clone(n.kids), sums: slices.Clone(n.sums), blocks: slices.Clone(n.blocks),
	}
}

// change calls do with the leaf that key belongs to and where in it, and puts in order what that changed on the way to
// it. It returns the node that replaces n.
func (n *node) change(stamp uint64, key []byte, do func(leaf *node, i int)) *node {
	n = n.own(stamp)
	i := n.find(key, false)
	if n.kids == nil {
		do(n, i)
		return n
	}
	kid := n.kids[i].change(stamp, key, do)
	switch {
	case len(kid.bounds) > nodeMax:
		a, b := kid.halves()
		n.replace(i, i+1, a, b)
	case len(kid.bounds) < nodeMin:
		// A neighbour of its own parent takes it in, or shares with it.
		n.kids[i] = kid
		j := max(i-1, 0)
		both := join(stamp, n.kids[j], n.kids[j+1])
		if len(both.bounds) > nodeMax {
			a, b := both.halves()
			n.replace(j, j+2, a, b)
		} else {
			n.replace(j, j+2, both)
		}
	default:
		n.replace(i, i+1, kid)
	}
	return n
}

// changeRoot is change for the root, which may grow by a level or lose one.
func (n *node) changeRoot(stamp uint64, key []byte, do func(leaf *node, i int)) *node {
	n = n.change(stamp, key, do)
	switch {
	case len(n.bounds) > nodeMax:
		a, b := n.halves()
		return parent(stamp, []*node{a, b})
	case len(n.kids) == 1:
		return n.kids[0]
	}
	return n
}

// replace puts kids in the place of the entries [from, to).
func (n *node) replace(from, to int, kids ...*node) {
	bounds, sums := make([]string, len(kids)), make([]int64, len(kids))
	for i, kid := range kids {
		bounds[i], sums[i] = kid.bounds[0], kid.total()
	}
	n.kids = slices.Replace(n.kids, from, to, kids...)
	n.sums = slices.Replace(n.sums, from, to, sums...)
	if !slices.Equal(n.bounds[from:to], bounds) {
		n.bounds = slices.Concat(n.bounds[:from], bounds, n.bounds[to:])
	}
}

// insert adds a block to the leaf n.
func (n *node) insert(i int, bound string, b block) {
	n.bounds = slices.Concat(n.bounds[:i], []string{bound}, n.bounds[i:])
	n.blocks = slices.Insert(n.blocks, i, b)
}

// remove takes a block from the leaf n.
func (n *node) remove(i int) {
	n.bounds = slices.Concat(n.bounds[:i], n.bounds[i+1:])
	n.blocks = slices.Delete(n.blocks, i, i+1)
}

// halves makes two nodes out of n.
func (n *node) halves() (a, b *node) {
	return n.slice(0, len(n.bounds)/2), n.slice(len(n.bounds)/2, len(n.bounds))
}

func (n *node) slice(from, to int) *node {
	s := &node{stamp: n.stamp, bounds: slices.Clone(n.bounds[from:to])}
	if n.kids == nil {
		s.blocks = slices.Clone(n.blocks[from:to])
	} else {
		s.kids, s.sums = slices.Clone(n.kids[from:to]), slices.Clone(n.sums[from:to])
	}
	return s
}

// join makes one node out of two neighbours.
func join(stamp uint64, a, b *node) *node {
	n := &node{stamp: stamp, bounds: slices.Concat(a.bounds, b.bounds)}
	if a.kids == nil {
		n.blocks = slices.Concat(a.blocks, b.blocks)
	} else {
		n.kids, n.sums = slices.Concat(a.kids, b.kids), slices.Concat(a.sums, b.sums)
	}
	return n
}

// parent is a node above kids.
func parent(stamp uint64, kids []*node) *node {
	n := &node{stamp: stamp, kids: slices.Clone(kids)}
	for _, kid := range kids {
		n.bounds, n.sums = append(n.bounds, kid.bounds[0]), append(n.sums, kid.total())
	}
	return n
}

// grow builds a tree over blocks in the order of their bounds, of which there is at least the first one.
func grow(bounds []string, blocks []block) *node {
	var level []*node
	for from, to := range pieces(len(bounds)) {
		// Each leaf gets slices of its own, or changing one would keep all the others in memory.
		level = append(level, &node{bounds: slices.Clone(bounds[from:to]), blocks: slices.Clone(blocks[from:to])})
	}
	for len(level) > 1 {
		var up []*node
		for from, to := range pieces(len(level)) {
			up = append(up, parent(0, level[from:to]))
		}
		level = up
	}
	return level[0]
}

// pieces yields the bounds of pieces of n entries that are as equal as can be and leave room in each node.
func pieces(n int) func(yield func(from, to int) bool) {
	const size = (nodeMin + nodeMax) / 2
	parts := (n + size - 1) / size
	return func(yield func(from, to int) bool) {
		for i := range parts {
			if !yield(n*i/parts, n*(i+1)/parts) {
				return
			}
		}
	}
}

// eachDirty shows the blocks of the edit with this stamp that are dirty, in order, and makes them clean.
func (n *node) eachDirty(stamp uint64, do func(bound string, b *block)) {
	if n.stamp != stamp {
		return
	}
	for _, kid := range n.kids {
		kid.eachDirty(stamp, do)
	}
	for ; n.dirty != 0; n.dirty &= n.dirty - 1 {
		i := bits.TrailingZeros64(n.dirty)
		do(n.bounds[i], &n.blocks[i])
	}
}

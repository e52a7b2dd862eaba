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

// node is one node of a B-tree with everything in the leaves. Entry i covers the keys from its bound up to the next
// bound; the first bound of the tree is the empty key, which lies before all others.
//
// Invariant: bounds ascend; that of an entry is the first bound of kids[i], and sums[i] the total of that.
type node struct {
	// stamp is that of the edit that made the node: this one may still change it, all others copy.
	stamp uint64
	bounds
	kids   []*node // nil in a leaf
	sums   []int64 // nil in a leaf
	blocks []block // nil above the leaves
	// dirty has a bit for each block that the present edit counted something in.
	dirty uint64
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
func (n *node) locate(key []byte) place { return n.walk(key, false) }

// locateBefore returns the block before the one that begins at bound, which must not be the first.
func (n *node) locateBefore(bound string) place { return n.walk([]byte(bound), true) }

// path is the entries taken on the way from the root to a block. Twelve levels of nodeMin hold more blocks than memory.
type path struct {
	at    [12]uint8
	depth int
}

// descend goes down to the block that key belongs to and writes the way into p.
func (n *node) descend(key []byte, p *path) (start, end string, last bool) {
	last = true
	for depth := 0; ; depth++ {
		i := n.find(key, false)
		p.at[depth] = uint8(i)
		if i+1 < len(n.keys) {
			end, last = n.keys[i+1], false
		}
		if n.kids == nil {
			p.depth = depth + 1
			return n.keys[i], end, last
		}
		n = n.kids[i]
	}
}

// blockAt returns the block that begins at bound, nil if none does.
func (n *node) blockAt(bound string) *block {
	key := []byte(bound)
	for n.kids != nil {
		n = n.kids[n.find(key, false)]
	}
	if i := n.find(key, false); n.keys[i] == bound {
		return &n.blocks[i]
	}
	return nil
}

// walk goes down to a block and sums up what lies before it.
func (n *node) walk(key []byte, before bool) place {
	to := place{last: true}
	for {
		i := n.find(key, before)
		if i+1 < len(n.keys) {
			to.end, to.last = n.keys[i+1], false
		}
		if n.kids == nil {
			for j := range n.blocks[:i] {
				to.before += int64(n.blocks[j].live)
			}
			to.start, to.block = n.keys[i], n.blocks[i]
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
	case len(kid.keys) > nodeMax:
		a, b := kid.halves()
		n.replace(i, i+1, a, b)
	case len(kid.keys) < nodeMin:
		// A neighbour of its own parent takes it in, or shares with it.
		n.kids[i] = kid
		j := max(i-1, 0)
		both := join(stamp, n.kids[j], n.kids[j+1])
		if len(both.keys) > nodeMax {
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
	case len(n.keys) > nodeMax:
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
		bounds[i], sums[i] = kid.keys[0], kid.total()
	}
	n.kids = slices.Replace(n.kids, from, to, kids...)
	n.sums = slices.Replace(n.sums, from, to, sums...)
	if !slices.Equal(n.keys[from:to], bounds) {
		n.bounds = boundsOf(n.keys[:from], bounds, n.keys[to:])
	}
}

// insert adds a block to the leaf n.
func (n *node) insert(i int, bound string, b block) {
	n.bounds = boundsOf(n.keys[:i], []string{bound}, n.keys[i:])
	n.blocks = slices.Insert(n.blocks, i, b)
}

// remove takes a block from the leaf n.
func (n *node) remove(i int) {
	n.bounds = boundsOf(n.keys[:i], n.keys[i+1:])
	n.blocks = slices.Delete(n.blocks, i, i+1)
}

// halves makes two nodes out of n.
func (n *node) halves() (a, b *node) {
	return n.slice(0, len(n.keys)/2), n.slice(len(n.keys)/2, len(n.keys))
}

func (n *node) slice(from, to int) *node {
	s := &node{stamp: n.stamp, bounds: boundsOf(n.keys[from:to])}
	if n.kids == nil {
		s.blocks = slices.Clone(n.blocks[from:to])
	} else {
		s.kids, s.sums = slices.Clone(n.kids[from:to]), slices.Clone(n.sums[from:to])
	}
	return s
}

// join makes one node out of two neighbours.
func join(stamp uint64, a, b *node) *node {
	n := &node{stamp: stamp, bounds: boundsOf(a.keys, b.keys)}
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
	var keys []string
	for _, kid := range kids {
		keys, n.sums = append(keys, kid.keys[0]), append(n.sums, kid.total())
	}
	n.bounds = boundsOf(keys)
	return n
}

// grow builds a tree over blocks in the order of their bounds, of which there is at least the first one.
func grow(bounds []string, blocks []block) *node {
	var level []*node
	for from, to := range pieces(len(bounds)) {
		// Each leaf gets slices of its own, or changing one would keep all the others in memory.
		level = append(level, &node{bounds: boundsOf(bounds[from:to]), blocks: slices.Clone(blocks[from:to])})
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
		do(n.keys[i], &n.blocks[i])
	}
}

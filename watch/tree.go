package watch

import "bytes"

// tree is an interval tree: a balanced (AVL) search tree over the intervals' lower ends, then upper ends, in which each
// node also knows the greatest upper end below it. Finding the k intervals around a key visits O(k log n) nodes at
// worst, O(log n) if there is none; insertion and removal are O(log n).
//
//	Source   Cormen et al., Introduction to Algorithms, "Interval trees"; Adelson-Velsky and Landis for the balance
type tree struct {
	root *node
	n    int
}

type node struct {
	lo, hi      []byte // half-open; a nil hi is no upper end
	slot        *slot
	left, right *node
	height      int
	maxHi       []byte // greatest hi of this node and those below
}

// compareEnds orders upper ends; nil lies above all others.
func compareEnds(a, b []byte) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return bytes.Compare(a, b)
}

func (n *node) compare(lo, hi []byte) int {
	if c := bytes.Compare(lo, n.lo); c != 0 {
		return c
	}
	return compareEnds(hi, n.hi)
}

// find gives the slot of exactly [lo, hi), or nil.
func (t *tree) find(lo, hi []byte) *slot {
	for n := t.root; n != nil; {
		c := n.compare(lo, hi)
		switch {
		case c == 0:
			return n.slot
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	return nil
}

// insert adds an interval that is not there yet.
func (t *tree) insert(lo, hi []byte, s *slot) {
	t.root = t.root.insert(&node{lo: lo, hi: hi, slot: s, height: 1, maxHi: hi})
	t.n++
}

// remove takes out an interval that is there.
func (t *tree) remove(lo, hi []byte) {
	t.root = t.root.remove(lo, hi)
	t.n--
}

// stab appends the groups of every interval around key.
func (t *tree) stab(dst []*group, key []byte) []*group { return t.root.stab(dst, key) }

func (n *node) stab(dst []*group, key []byte) []*group {
	if n == nil || !below(key, n.maxHi) {
		return dst
	}
	dst = n.left.stab(dst, key)
	if bytes.Compare(key, n.lo) < 0 {
		return dst
	}
	if below(key, n.hi) {
		dst = append(dst, n.slot.groups...)
	}
	return n.right.stab(dst, key)
}

func below(key, hi []byte) bool { return hi == nil || bytes.Compare(key, hi) < 0 }

func (n *node) insert(added *node) *node {
	if n == nil {
		return added
	}
	switch c := n.compare(added.lo, added.hi); {
	case c < 0:
		n.left = n.left.insert(added)
	case c > 0:
		n.right = n.right.insert(added)
	default:
		panic("watch: interval is in the tree already")
	}
	return n.balance()
}

func (n *node) remove(lo, hi []byte) *node {
	if n == nil {
		panic("watch: interval is not in the tree")
	}
	switch c := n.compare(lo, hi); {
	case c < 0:
		n.left = n.left.remove(lo, hi)
	case c > 0:
		n.right = n.right.remove(lo, hi)
	case n.left == nil:
		return n.right
	case n.right == nil:
		return n.left
	default:
		next := n.right.leftmost()
		right := n.right.remove(next.lo, next.hi)
		next.left, next.right = n.left, right
		return next.balance()
	}
	return n.balance()
}

func (n *node) leftmost() *node {
	for n.left != nil {
		n = n.left
	}
	return n
}

func (n *node) level() int {
	if n == nil {
		return 0
	}
	return n.height
}

// refresh recomputes what n knows of the nodes below it.
func (n *node) refresh() {
	n.height = 1 + max(n.left.level(), n.right.level())
	n.maxHi = n.hi
	for _, child := range [2]*node{n.left, n.right} {
		if child != nil && compareEnds(child.maxHi, n.maxHi) > 0 {
			n.maxHi = child.maxHi
		}
	}
}

// balance gives the root of the same subtree with both sides at most one level apart, provided that they were at most
// two apart.
func (n *node) balance() *node {
	switch lean := n.left.level() - n.right.level(); {
	case lean > 1:
		if n.left.left.level() < n.left.right.level() {
			n.left = n.left.rotateLeft()
		}
		return n.rotateRight()
	case lean < -1:
		if n.right.right.level() < n.right.left.level() {
			n.right = n.right.rotateRight()
		}
		return n.rotateLeft()
	}
	n.refresh()
	return n
}

func (n *node) rotateLeft() *node {
	up := n.right
	n.right, up.left = up.left, n
	n.refresh()
	up.refresh()
	return up
}

func (n *node) rotateRight() *node {
	up := n.left
	n.left, up.right = up.right, n
	n.refresh()
	up.refresh()
	return up
}

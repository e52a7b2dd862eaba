package watch

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"holdfast/kv"
)

// TestTree puts random intervals into a tree and takes them out, and compares each stab with a list that is searched
// from end to end. After each step the tree must be a balanced search tree that knows its upper ends.
func TestTree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var tr tree
	var list []*group
	for range 2000 {
		span := kv.KeyRange{Key: randomKey(rnd), End: randomKey(rnd)}
		if rnd.IntN(5) == 0 {
			span.End = []byte{0}
		}
		lo, hi := span.Bounds()
		switch s := tr.find(lo, hi); {
		case s != nil:
			i := slices.Index(list, s.groups[0])
			list = slices.Delete(list, i, i+1)
			tr.remove(lo, hi)
		case !span.IsEmpty() && !span.IsSingle():
			g := &group{span: span}
			list = append(list, g)
			tr.insert(lo, hi, &slot{groups: []*group{g}})
		}
		if len(list) > 300 {
			lo, hi := list[0].span.Bounds()
			tr.remove(lo, hi)
			list = list[1:]
		}
		tr.root.check(t)
		if tr.n != len(list) {
			t.Fatalf("tree of %d intervals, want %d", tr.n, len(list))
		}
		key := randomKey(rnd)
		var want []*group
		for _, g := range list {
			if g.span.Contains(key) {
				want = append(want, g)
			}
		}
		if got := tr.stab(nil, key); !sameGroups(got, want) {
			t.Fatalf("stab %q: %d intervals, want %d", key, len(got), len(want))
		}
	}
}

func randomKey(rnd *rand.Rand) []byte {
	key := make([]byte, 1+rnd.IntN(2))
	for i := range key {
		key[i] = "\x00ab\xff"[rnd.IntN(4)]
	}
	if rnd.IntN(2) == 0 {
		key = fmt.Appendf(key, "%d", rnd.IntN(30))
	}
	return key
}

func sameGroups(a, b []*group) bool {
	if len(a) != len(b) {
		return false
	}
	for _, g := range a {
		if !slices.Contains(b, g) {
			return false
		}
	}
	return true
}

func (n *node) check(t *testing.T) {
	if n == nil {
		return
	}
	n.left.check(t)
	n.right.check(t)
	if d := n.left.level() - n.right.level(); d < -1 || d > 1 || n.height != 1+max(n.left.level(), n.right.level()) {
		t.Fatalf("node %q is out of balance", n.lo)
	}
	maxHi := n.hi
	for _, c := range []*node{n.left, n.right} {
		if c != nil && compareEnds(c.maxHi, maxHi) > 0 {
			maxHi = c.maxHi
		}
	}
	if compareEnds(maxHi, n.maxHi) != 0 {
		t.Fatalf("node %q: greatest end %q, want %q", n.lo, n.maxHi, maxHi)
	}
	leftWrong := n.left != nil && n.compare(n.left.lo, n.left.hi) >= 0
	rightWrong := n.right != nil && n.compare(n.right.lo, n.right.hi) <= 0
	if leftWrong || rightWrong {
		t.Fatalf("node %q is out of order", n.lo)
	}
}

// TestBlockMatch compares the search in a sealed block with the walk through a growing one.
func TestBlockMatch(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		b := &block{}
		for i := range 1 + rnd.IntN(60) {
			it := new(item)
			key := randomKey(rnd)
			rev := kv.Rev{Main: kv.Revision(i / 2), Sub: int64(i % 2)}
			it.init(kv.Event{Rev: rev, Type: kv.EventType(rnd.IntN(2)), Key: key, KV: key})
			b.items = append(b.items, it)
		}
		span := kv.KeyRange{Key: randomKey(rnd)}
		switch rnd.IntN(3) {
		case 0:
			span.End = []byte{0}
		case 1:
			if span.End = randomKey(rnd); bytes.Compare(span.Key, span.End) >= 0 {
				continue
			}
		}
		g := &group{span: span, opts: options(rnd.IntN(8))}
		at := kv.Rev{Main: kv.Revision(rnd.IntN(30)), Sub: int64(rnd.IntN(2))}
		growing := view{items: b.items}.match(g, at)
		sealed := view{items: b.items, sealed: b}.match(g, at)
		if !slices.Equal(growing, sealed) {
			t.Fatalf("%d matches in a growing block, %d in a sealed one", len(growing), len(sealed))
		}
	}
}

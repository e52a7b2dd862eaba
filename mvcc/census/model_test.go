package census

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"holdfast/kv"
	"holdfast/storage"
)

// model is the census as a sorted list of keys: those that have a row, and whether they live.
type model struct {
	keys  []string
	lives map[string]bool
	died  map[string]kv.Revision
}

func newModel() *model { return &model{lives: map[string]bool{}, died: map[string]kv.Revision{}} }

func (m *model) create(key string) {
	if _, ok := m.lives[key]; !ok {
		i, _ := slices.BinarySearch(m.keys, key)
		m.keys = slices.Insert(m.keys, i, key)
	}
	m.lives[key] = true
}

func (m *model) delete(key string, at kv.Revision) { m.lives[key], m.died[key] = false, at }

// compact removes the rows of what died below rev.
func (m *model) compact(rev kv.Revision) {
	m.keys = slices.DeleteFunc(m.keys, func(k string) bool {
		gone := !m.lives[k] && m.died[k] < rev
		if gone {
			delete(m.lives, k)
		}
		return gone
	})
}

func (m *model) within(lo, hi []byte) []string {
	from, _ := slices.BinarySearch(m.keys, string(lo))
	to := len(m.keys)
	if hi != nil {
		to, _ = slices.BinarySearch(m.keys, string(hi))
	}
	return m.keys[from:max(from, to)]
}

func (m *model) count(lo, hi []byte) (n int64) {
	for _, k := range m.within(lo, hi) {
		if m.lives[k] {
			n++
		}
	}
	return n
}

func (m *model) walk(lo, hi []byte, fn func(key []byte, lives bool) bool) error {
	for _, k := range m.within(lo, hi) {
		if !fn([]byte(k), m.lives[k]) {
			break
		}
	}
	return nil
}

func (m *model) clone() *model {
	c := newModel()
	c.keys = slices.Clone(m.keys)
	for k, v := range m.lives {
		c.lives[k] = v
	}
	return c
}

// table holds rows in memory.
type table map[string][]byte

func (t table) Set(key, value []byte) { t[string(key)] = slices.Clone(value) }
func (t table) Delete(key []byte)     { delete(t, string(key)) }

func (t table) Each(_ storage.Table, do func(body, value []byte) error) error {
	var keys []string
	for k := range t {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if err := do([]byte(k[1:len(k)-1]), t[k]); err != nil {
			return err
		}
	}
	return nil
}

// check is everything that must hold of a tree: order, sums, sizes of nodes and depth.
func check(n *node, stamp uint64) (blocks, depth int, err error) {
	if err := n.check(stamp, true); err != nil {
		return 0, 0, err
	}
	if n.keys[0] != "" {
		return 0, 0, fmt.Errorf("the tree begins at %q", n.keys[0])
	}
	last, first := "", true
	var each func(n *node, d int) error
	each = func(n *node, d int) error {
		if n.kids == nil {
			if depth != 0 && depth != d {
				return fmt.Errorf("leaves at depth %d and %d", depth, d)
			}
			depth = d
		}
		for i, kid := range n.kids {
			if kid.keys[0] != n.keys[i] || kid.total() != n.sums[i] {
				return fmt.Errorf("entry %q of sum %d for a node at %q of %d", n.keys[i], n.sums[i], kid.keys[0], kid.total())
			}
			if err := errors.Join(kid.check(stamp, false), each(kid, d+1)); err != nil {
				return err
			}
		}
		for i := range n.blocks {
			if !first && n.keys[i] <= last {
				return fmt.Errorf("block at %q after %q", n.keys[i], last)
			}
			if b := n.blocks[i]; b.live < 0 || b.dead < 0 {
				return fmt.Errorf("block at %q: %s", n.keys[i], b)
			}
			last, first = n.keys[i], false
			blocks++
		}
		return nil
	}
	return blocks, depth, each(n, 1)
}

func (n *node) check(stamp uint64, root bool) error {
	size := len(n.keys)
	switch {
	case n.stamp > stamp:
		return fmt.Errorf("node of stamp %d in a version of %d", n.stamp, stamp)
	case size > nodeMax || size < 1 || size < nodeMin && !root || root && size < 2 && n.kids != nil:
		return fmt.Errorf("node of %d entries", size)
	case n.kids == nil && (len(n.blocks) != size || n.sums != nil),
		n.kids != nil && (len(n.kids) != size || len(n.sums) != size || n.blocks != nil):
		return fmt.Errorf("node of %d bounds, %d kids, %d sums, %d blocks", size, len(n.kids), len(n.sums), len(n.blocks))
	}
	return nil
}

// all returns the blocks of n in order.
func (n *node) all() (all []cut) {
	for _, kid := range n.kids {
		all = append(all, kid.all()...)
	}
	for i, b := range n.blocks {
		all = append(all, cut{n.keys[i], b})
	}
	return all
}

// seedOf takes the seed of a random test from HOLDFAST_SEED or the clock and prints it.
func seedOf(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOLDFAST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("repeat with HOLDFAST_SEED=%d", seed)
	return seed
}

// pair drives the census and the model with the same changes.
type pair struct {
	t        testing.TB
	rng      *rand.Rand
	m        *model
	v        *Version
	rows     table
	revision kv.Revision
	finished kv.Revision
	past     []snapshot
	flips    []flip // of the present edit
}

type flip struct {
	key   string
	lives bool
}

// snapshot is a version and what it has to answer for ever.
type snapshot struct {
	v *Version
	m *model
}

func newPair(t testing.TB, seed uint64) *pair {
	return &pair{t: t, rng: rand.New(rand.NewPCG(seed, 3)), m: newModel(), v: Empty(), rows: table{}, revision: 1}
}

func (p *pair) key() []byte {
	switch p.rng.IntN(8) {
	case 0: // hard for the order: beginnings of one another, and extreme bytes
		k := make([]byte, 1+p.rng.IntN(3))
		for i := range k {
			k[i] = "a\x00\xff"[p.rng.IntN(3)]
		}
		return k
	case 1: // neighbours
		return fmt.Appendf(nil, "k%06d", 5000+p.rng.IntN(400))
	default:
		return fmt.Appendf(nil, "k%06d", p.rng.IntN(20_000))
	}
}

// bounds is a random range, now and then without an end, empty or the wrong way round.
func (p *pair) bounds() (lo, hi []byte) {
	lo, hi = p.key(), p.key()
	switch p.rng.IntN(8) {
	case 0:
		hi = nil
	case 1:
		lo = []byte{0}
	case 2, 3: // exactly at blocks
		all := p.v.root.all()
		i := p.rng.IntN(len(all))
		lo = []byte(all[i].bound)
		if j := i + p.rng.IntN(len(all)-i); j > i {
			hi = []byte(all[j].bound)
		}
	}
	if hi != nil && string(hi) < string(lo) && p.rng.IntN(20) > 0 {
		lo, hi = hi, lo
	}
	return lo, hi
}

func (p *pair) compare(v *Version, m *model) {
	p.t.Helper()
	lo, hi := p.bounds()
	scans := 0
	scan := func(lo, hi []byte) (int64, error) {
		scans++
		if n := len(m.within(lo, hi)); n > blockMax && v == p.v {
			p.t.Fatalf("a scan over %d rows", n)
		}
		return m.count(lo, hi), nil
	}
	got, err := v.Count(lo, hi, scan)
	if want := m.count(lo, hi); got != want || err != nil || scans > 2 || v.Estimate(lo, hi) < want {
		p.t.Fatalf("count [%q, %q): %d (%v) in %d scans, estimate %d, not %d", lo, hi, got, err, scans, v.Estimate(lo, hi), want)
	}
}

// edit is editInto for rows in memory.
func (p *pair) edit() { p.editInto(p.rows) }

// editInto makes a batch of changes of one kind and compares inside it.
func (p *pair) editInto(rows Rows) {
	e := p.v.Edit(p.finished)
	p.revision++
	p.flips = nil
	switch kind := p.rng.IntN(10); {
	case kind < 4: // keys here and there
		for range p.rng.IntN(200) {
			p.flip(e, p.key(), p.rng.IntN(4) > 0)
		}
	case kind < 6: // ascending
		from := p.rng.IntN(20_000)
		for i := range p.rng.IntN(3000) {
			p.flip(e, fmt.Appendf(nil, "k%06d", from+i), true)
		}
	case kind < 7: // the same keys again and again
		for range 500 {
			p.flip(e, fmt.Appendf(nil, "k%06d", p.rng.IntN(10)), p.rng.IntN(2) == 0)
		}
	default:
		lo, hi := p.bounds()
		for _, k := range slices.Clone(p.m.within(lo, hi)) {
			p.flip(e, []byte(k), false)
		}
	}
	lo, hi := p.bounds()
	scan := func(lo, hi []byte) (int64, error) { return p.m.count(lo, hi), nil }
	if got, err := e.Count(lo, hi, scan); err != nil || got != p.m.count(lo, hi) {
		p.t.Fatalf("count [%q, %q) in an edit: %d (%v), not %d", lo, hi, got, err, p.m.count(lo, hi))
	}
	if p.rng.IntN(20) == 0 {
		e = p.again()
	}
	v, err := e.Finish(rows, p.m.walk)
	if err != nil {
		p.t.Fatal(err)
	}
	p.v = v
}

// flip creates or deletes key on both sides, if that is a change.
func (p *pair) flip(e *Edit, key []byte, lives bool) {
	if p.m.lives[string(key)] == lives {
		return
	}
	p.flips = append(p.flips, flip{string(key), lives})
	if lives {
		p.m.create(string(key))
		e.Create(key)
	} else {
		p.m.delete(string(key), p.revision)
		e.Delete(key, p.revision)
	}
	clear(key) // nobody may keep it
}

// again drops the edit and makes the same changes in a new one: the old one must not have left a trace.
func (p *pair) again() *Edit {
	e := p.v.Edit(p.finished)
	for _, f := range p.flips {
		if f.lives {
			e.Create([]byte(f.key))
		} else {
			e.Delete([]byte(f.key), p.revision)
		}
	}
	return e
}

func (p *pair) checkVersion() {
	blocks, depth, err := check(p.v.root, p.v.stamp)
	if err != nil {
		p.t.Fatal(err)
	}
	for limit, d := nodeMin, 1; d < depth; limit, d = limit*nodeMin, d+1 {
		if d > 1 && blocks < limit/nodeMin {
			p.t.Fatalf("depth %d for %d blocks", depth, blocks)
		}
	}
	all := p.v.root.all()
	for i, b := range all {
		var end []byte
		if i+1 < len(all) {
			end = []byte(all[i+1].bound)
		}
		rows := len(p.m.within([]byte(b.bound), end))
		if int64(b.live) != p.m.count([]byte(b.bound), end) || rows > b.weight(p.finished) || b.weight(p.finished) > blockMax {
			p.t.Fatalf("block at %q: %s, finished %s: %d rows, %d live", b.bound, b.block, p.finished, rows, p.m.count([]byte(b.bound), end))
		}
	}
	p.checkLoad(all)
}

// checkLoad: the rows alone make the same blocks.
func (p *pair) checkLoad(want []cut) {
	loaded, err := Load(p.rows)
	if err != nil {
		p.t.Fatal(err)
	}
	if !slices.Equal(loaded.root.all(), want) {
		p.t.Fatalf("loaded %v, not %v", loaded.root.all(), want)
	}
	if _, _, err := check(loaded.root, 0); err != nil {
		p.t.Fatalf("loaded: %v", err)
	}
	if p.rng.IntN(4) == 0 {
		p.v = loaded
	}
}

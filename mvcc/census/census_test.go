package census

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// TestRandom: after random changes every count is that of a sorted list, in the present version and in all that came
// before, and the tree is in order.
func TestRandom(t *testing.T) {
	seed := seedOf(t)
	for i := range uint64(4) {
		p := newPair(t, seed+i)
		for range 40 {
			p.past = append(p.past, snapshot{p.v, p.m.clone()})
			p.edit()
			if p.rng.IntN(5) == 0 {
				p.finished = p.revision - kv.Revision(p.rng.IntN(3))
				p.m.compact(p.finished)
			}
			p.checkVersion()
			for range 20 {
				p.compare(p.v, p.m)
				s := p.past[p.rng.IntN(len(p.past))]
				p.compare(s.v, s.m)
			}
		}
	}
}

// TestSpaceComesBack: keys that come in ascending order and die in the same order, as in a queue, leave no blocks behind
// once compactions have removed their rows.
func TestSpaceComesBack(t *testing.T) {
	p := newPair(t, 1)
	const living = 1000
	for i := range 200 {
		p.revision++
		e := p.v.Edit(p.finished)
		for j := range 100 {
			p.flip(e, queueKey(100*i+j), true)
			if old := 100*i + j - living; old >= 0 {
				p.flip(e, queueKey(old), false)
			}
		}
		v, err := e.Finish(p.rows, p.m.walk)
		if err != nil {
			t.Fatal(err)
		}
		p.v = v
		if i%10 == 9 {
			p.finished = p.revision
			p.m.compact(p.finished)
		}
		p.checkVersion()
	}
	// Up to ten edits' dead wait for the next compaction, and a tour for their joining.
	if blocks := len(p.v.root.all()); blocks > 4*living/blockTarget {
		t.Fatalf("%d blocks for %d keys", blocks, living)
	}
}

func queueKey(i int) []byte { return fmt.Appendf(nil, "q%08d", i) }

// filled is a census of n keys in order, as edits of 1000 creations make it.
func filled(t testing.TB, n int) (*Version, table) {
	v, rows := Empty(), table{}
	for from := 0; from < n; from += 1000 {
		e := v.Edit(0)
		to := min(from+1000, n)
		for i := from; i < to; i++ {
			e.Create(queueKey(i))
		}
		var err error
		if v, err = e.Finish(rows, walkQueue(to)); err != nil {
			t.Fatal(err)
		}
	}
	return v, rows
}

// walkQueue walks over the first n keys, all of which live.
func walkQueue(n int) Walk {
	return func(lo, hi []byte, fn func([]byte, bool) bool) error {
		for i := number(lo, 0); i < number(hi, n); i++ {
			if !fn(queueKey(i), true) {
				break
			}
		}
		return nil
	}
}

// number is the place of a queueKey, none without one.
func number(key []byte, none int) int {
	if len(key) == 0 {
		return none
	}
	n := 0
	for _, c := range key[1:] {
		n = 10*n + int(c-'0')
	}
	return n
}

func scanQueue(lo, hi []byte) (int64, error) { return int64(number(hi, 0) - number(lo, 0)), nil }

// TestCost counts the nodes that a change copies and a count visits: both grow with the logarithm of the keys, and a
// count looks at no more than a block of keys at each end.
func TestCost(t *testing.T) {
	for _, keys := range []int{1000, 30_000, 1_000_000} {
		v, _ := filled(t, keys)
		blocks, depth, err := check(v.root, v.stamp)
		if err != nil || v.Keys() != int64(keys) {
			t.Fatalf("%d keys, not %d (%v)", v.Keys(), keys, err)
		}
		// A level for each factor of nodeMin, and a root.
		if limit := bits.Len(uint(blocks))/3 + 2; depth > limit {
			t.Errorf("%d keys in %d blocks: depth %d, more than %d", keys, blocks, depth, limit)
		}
		if blocks > 2*keys/blockTarget+1 {
			t.Errorf("%d keys in %d blocks", keys, blocks)
		}
		e := v.Edit(0)
		e.Create(queueKey(keys / 2))
		e.settle()
		if n := owned(e.root, e.stamp); n != depth {
			t.Errorf("one creation among %d keys copied %d nodes of %d levels", keys, n, depth)
		}
		scanned := int64(0)
		n, err := v.Count(queueKey(keys/3), queueKey(keys/3*2), func(lo, hi []byte) (int64, error) {
			n, err := scanQueue(lo, hi)
			scanned += n
			return n, err
		})
		if err != nil || n != int64(keys/3*2-keys/3) || scanned > 2*blockMax {
			t.Errorf("count %d (%v), %d keys scanned", n, err, scanned)
		}
	}
}

func owned(n *node, stamp uint64) int {
	if n.stamp != stamp {
		return 0
	}
	sum := 1
	for _, kid := range n.kids {
		sum += owned(kid, stamp)
	}
	return sum
}

// TestRangeDeletion: the deletion of a hundred thousand neighbours copies the nodes above them once.
func TestRangeDeletion(t *testing.T) {
	const keys = 300_000
	v, rows := filled(t, keys)
	blocks := len(v.root.all())
	e := v.Edit(0)
	for i := range keys / 3 {
		e.Delete(queueKey(keys/3+i), 7)
	}
	e.settle()
	if n := owned(e.root, e.stamp); n > blocks/3/nodeMin*8/7+8 {
		t.Errorf("%d nodes copied above %d blocks", n, blocks/3)
	}
	after, err := e.Finish(rows, nil)
	if err != nil || after.Keys() != keys*2/3 || v.Keys() != keys {
		t.Fatalf("%d keys left of %d (%v)", after.Keys(), v.Keys(), err)
	}
}

// TestScanFails: what a scan or a walk reports comes back.
func TestScanFails(t *testing.T) {
	v, _ := filled(t, 1000)
	broken := errors.New("disk on fire")
	scan := func(lo, hi []byte) (int64, error) { return 0, broken }
	if _, err := v.Count(queueKey(1), queueKey(999), scan); !errors.Is(err, broken) {
		t.Errorf("count: %v", err)
	}
	e := v.Edit(0)
	for i := range blockMax + 1 {
		e.Create(fmt.Appendf(queueKey(500), "-%d", i))
	}
	walk := func(_, _ []byte, _ func([]byte, bool) bool) error { return broken }
	if _, err := e.Finish(table{}, walk); !errors.Is(err, broken) {
		t.Errorf("finish: %v", err)
	}
}

// TestCountAll: nothing is scanned to count everything, however it is asked for.
func TestCountAll(t *testing.T) {
	v, _ := filled(t, 1000)
	for _, lo := range []string{"", "\x00"} {
		n, err := v.Count([]byte(lo), nil, func(_, _ []byte) (int64, error) { return 0, errors.New("scanned") })
		if err != nil || n != 1000 {
			t.Errorf("from %q on: %d keys (%v)", lo, n, err)
		}
	}
}

// TestMiscount: a census that does not agree with the keys is no basis for anything.
func TestMiscount(t *testing.T) {
	e := Empty().Edit(0)
	for i := range blockMax + 1 {
		e.Create(queueKey(i))
	}
	defer func() {
		if recover() == nil {
			t.Error("a block of 385 keys was found to have 100, and nothing happened")
		}
	}()
	_, err := e.Finish(table{}, func(_, _ []byte, fn func([]byte, bool) bool) error {
		for i := range 100 {
			fn(queueKey(i), true)
		}
		return nil
	})
	t.Fatal(err)
}

// TestBuilder: the census of all keys in order is the one that was counted.
func TestBuilder(t *testing.T) {
	rows := table{}
	b := NewBuilder(rows, 9)
	const keys = 10_000
	for i := range keys {
		b.Add(queueKey(i), i%3 > 0)
	}
	if n := b.Finish(); n != keys/3*2 {
		t.Fatalf("%d keys", n)
	}
	v, err := Load(rows)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range v.root.all() {
		if b.weight(9) > blockTarget || b.weight(10) != int(b.live) || i == 0 && b.bound != "" {
			t.Fatalf("block %d at %q: %s", i, b.bound, b.block)
		}
	}
}

// TestLoadRefuses: rows that make no sense are an error that says which.
func TestLoadRefuses(t *testing.T) {
	for name, rows := range map[string]table{
		"short":   {string(blockKey("")): {1, 2}},
		"long":    {string(blockKey("")): {1, 2, 3, 4, 5}},
		"huge":    {string(blockKey("")): {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0}},
		"beginal": {string(blockKey("a")): {0, 1, 0, 0}},
	} {
		if v, err := Load(rows); err == nil {
			t.Errorf("%s: loaded %d keys", name, v.Keys())
		} else {
			t.Log(err)
		}
	}
	if v, err := Load(table{}); err != nil || v.Keys() != 0 {
		t.Errorf("no rows: %v", err)
	}
}

// TestPast: the nearest version is found, and the one not used for the longest time goes first.
func TestPast(t *testing.T) {
	var p Past
	if _, v := p.Nearest(1); v != nil {
		t.Fatal("a version out of nothing")
	}
	for i := range kv.Revision(pastMax) {
		p.Remember(10*i, Empty())
	}
	if rev, v := p.Nearest(4); rev != 0 || v == nil {
		t.Fatalf("nearest to 4 is %s", rev)
	}
	again := Empty()
	p.Remember(20, again)
	p.Remember(1000, Empty()) // lets 10 go
	if rev, _ := p.Nearest(10); rev != 0 && rev != 20 {
		t.Fatalf("nearest to 10 is %s", rev)
	}
	if rev, v := p.Nearest(21); rev != 20 || v != again || len(p.versions) != pastMax {
		t.Fatalf("nearest to 21 is %s, of %d", rev, len(p.versions))
	}
}

// TestFold: the log stays within its bound however many edits there are, and rows and log together are the census at any
// time.
func TestFold(t *testing.T) {
	const keys, edits, size = 300_000, 200, 700
	v, rows := filled(t, keys)
	rng := rand.New(rand.NewPCG(seedOf(t), 5))
	for i := range edits {
		e := v.Edit(0)
		from := 0
		if i > 20 {
			from = keys / 2 // the other half is never overtaken
		}
		for range size {
			k := queueKey(from + rng.IntN(keys-from))
			e.Delete(k, 7)
			e.Create(k)
		}
		var err error
		if v, err = e.Finish(rows, walkQueue(keys)); err != nil {
			t.Fatal(err)
		}
		if v.log.entries > logMax {
			t.Fatalf("%d entries in the log", v.log.entries)
		}
		if i%20 < 19 {
			continue
		}
		loaded, err := Load(rows)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(loaded.root.all(), v.root.all()) || loaded.log.entries > v.log.entries {
			t.Fatalf("loaded something else after %d edits", i+1)
		}
	}
	if v.log.rows[0].seq < keys/1000+edits/4 {
		t.Errorf("nothing was folded: the log begins at %d", v.log.rows[0].seq)
	}
}

// TestBoundReturns: what the log says of a block that has joined another does not hold for the one that later begins at
// the same key.
func TestBoundReturns(t *testing.T) {
	const keys = 10_000
	v, rows := filled(t, keys)
	finish := func(e *Edit) {
		t.Helper()
		var err error
		if v, err = e.Finish(rows, walkQueue(keys)); err != nil {
			t.Fatal(err)
		}
	}
	all := v.root.all()
	at := func(i int) int { return number([]byte(all[i].bound), 0) }
	first, size, end := at(5), at(6)-at(5), at(8)
	if at(7)-at(6) != size || end-at(7) != size {
		t.Fatalf("blocks at %d, %d, %d and %d", first, at(6), at(7), end)
	}
	e := v.Edit(0)
	for _, b := range all[4:10] { // this goes into the log
		e.Delete([]byte(b.bound), 7)
		e.Create([]byte(b.bound))
	}
	finish(e)
	e = v.Edit(8)
	for i := first + 10; i < end-10; i++ {
		e.Delete(queueKey(i), 9)
	}
	finish(e)
	for range 10 { // the tour comes by
		finish(v.Edit(10))
	}
	if p := v.root.locate(queueKey(end - 1)); p.start != all[5].bound {
		t.Fatalf("the block at %q has not joined", p.start)
	}
	e = v.Edit(12)
	for i := first + 10; i < end-10; i++ {
		e.Create(queueKey(i))
	}
	finish(e)
	for _, b := range all[6:8] {
		if p := v.root.locate([]byte(b.bound)); p.start != b.bound {
			t.Fatalf("the block was split at %q, not at %q", p.start, b.bound)
		}
	}
	loaded, err := Load(rows)
	if err != nil || !slices.Equal(loaded.root.all(), v.root.all()) {
		t.Fatalf("loaded something else (%v)", err)
	}
}

// TestChurn: keys that come and go cost nobody a walk as long as compactions come by, and a join forgets no death.
func TestChurn(t *testing.T) {
	v, rows := filled(t, 1000)
	for i := range kv.Revision(500) {
		e := v.Edit(10 * i)
		for j := range 10 {
			e.Delete(queueKey(500+j), 10*i+5)
			e.Create(queueKey(500 + j))
		}
		var err error
		if v, err = e.Finish(rows, nil); err != nil { // a walk would panic
			t.Fatal(err)
		}
	}
	a, b := block{live: 1, dead: 2, died: 3}, block{live: 10, dead: 20, died: 30}
	if ab, ba := a.plus(b), b.plus(a); ab != ba || ab != (block{live: 11, dead: 22, died: 30}) {
		t.Fatalf("%s and %s are %s, or %s", a, b, ab, ba)
	}
}

// FuzzDecodeLog: as FuzzDecodeBlock.
func FuzzDecodeLog(f *testing.F) {
	f.Add(encodeLog([]cut{{"", block{live: 1}}, {"key/17", block{dead: 300, died: 9}}, {"key/2", block{}}}))
	f.Fuzz(func(t *testing.T, row []byte) {
		entries, err := decodeLog(row)
		if err != nil {
			return
		}
		if again, err := decodeLog(encodeLog(entries)); err != nil || !slices.Equal(again, entries) {
			t.Fatalf("%x: %v, then %v (%v)", row, entries, again, err)
		}
	})
}

// FuzzDecodeBlock: what is decoded is encoded the same way again, and nothing panics.
func FuzzDecodeBlock(f *testing.F) {
	f.Add(block{live: 300, dead: 2, died: 1 << 40, seq: 77}.encode())
	f.Fuzz(func(t *testing.T, row []byte) {
		b, err := decodeBlock(row)
		if err != nil {
			return
		}
		if again, err := decodeBlock(b.encode()); err != nil || again != b {
			t.Fatalf("%x: %s, then %s (%v)", row, b, again, err)
		}
	})
}

// BenchmarkCreate: what does the census cost per creation in runs of 64, the rows that it adds to the batch included?
// Neighbours share a row; keys all over the place need one each. Every run begins with the same version, so that no block
// is split: that walks over one key for each key created (BenchmarkPut of mvcc has it).
func BenchmarkCreate(b *testing.B) {
	const size = 64
	for _, bench := range []struct {
		name         string
		keys, stride int
	}{{"ascending", 1000, 0}, {"random/10000", 10_000, 7919}, {"random/1000000", 1_000_000, 7919}} {
		b.Run(bench.name, func(b *testing.B) {
			st, err := storage.Open(storage.Config{FS: vfs.NewMem(), Dir: "store"})
			if err != nil {
				b.Fatal(err)
			}
			v, _ := filled(b, bench.keys)
			keys := make([][]byte, b.N+size)
			for i := range keys {
				keys[i] = queueKey(bench.keys + i)
				if bench.stride > 0 {
					keys[i] = fmt.Appendf(queueKey(i*bench.stride%bench.keys), "-%d", i)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				batch := st.NewBatch()
				e := v.Edit(0)
				for _, k := range keys[i : i+size] {
					e.Create(k)
				}
				if _, err = e.Finish(batch, nil); err != nil {
					b.Fatal(err)
				}
				if err := errors.Join(batch.Commit(), batch.Close()); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			if err := st.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkLocate: what do the two walks down the tree cost that a count begins with?
func BenchmarkLocate(b *testing.B) {
	const keys = 1_000_000
	v, _ := filled(b, keys)
	for i := range b.N {
		from := i * 7919 % (keys / 2)
		if _, err := v.Count(queueKey(from), queueKey(from+keys/2), func(_, _ []byte) (int64, error) { return 0, nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad: what does a start cost with a million keys and a full log?
func BenchmarkLoad(b *testing.B) {
	const keys = 1_000_000
	v, rows := filled(b, keys)
	for i := 0; v.log.entries < logMax-500; i++ {
		e := v.Edit(0)
		for j := range 64 {
			k := queueKey((64*i + j) * 7919 % keys)
			e.Delete(k, 7)
			e.Create(k)
		}
		var err error
		if v, err = e.Finish(rows, walkQueue(keys)); err != nil {
			b.Fatal(err)
		}
	}
	st, err := storage.Open(storage.Config{FS: vfs.NewMem(), Dir: "store"})
	if err != nil {
		b.Fatal(err)
	}
	batch := st.NewBatch()
	for k, v := range rows {
		batch.Set([]byte(k), v)
	}
	if err := errors.Join(batch.Commit(), batch.Close(), st.Flush()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if v, err := Load(st); err != nil || v.Keys() != keys {
			b.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
}

package mvcc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// TestSieve: whatever was put in passes, also when it is full; of what was not at most one in 100 does; it takes as many keys as it says, and no more
// bytes than it may.
func TestSieve(t *testing.T) {
	seed := seedOf(t)
	for _, size := range []int{0, 31, 32, 1000, 200_000, 2_000_000} {
		rng := rand.New(rand.NewPCG(seed, uint64(size)))
		s := &sieve{max: size}
		var in []uint64
		for len(in) < 3_000_000 {
			h := rng.Uint64()
			if !s.put(h) {
				break
			}
			in = append(in, h)
			if s.bytes > s.max {
				t.Fatalf("%d bytes of %d", s.bytes, s.max)
			}
		}
		for _, h := range in {
			if !s.passes(h) {
				t.Fatalf("a sieve of %d bytes lost one of its %d keys", size, len(in))
			}
		}
		if least := sieveRoom(size - size/sieveLeast - sieveBlockBytes); int64(len(in)) < least {
			t.Fatalf("a sieve of %d bytes is full with %d keys, fewer than %d", size, len(in), least)
		}
		const others = 100_000
		passed := 0
		for range others {
			if s.passes(rng.Uint64()) {
				passed++
			}
		}
		if passed > others/100 {
			t.Fatalf("%d of %d others pass a sieve of %d bytes with %d keys in %d parts", passed, others, size, len(in), len(s.parts))
		}
		if s.empty(); s.passes(rng.Uint64()) {
			t.Fatal("a key passes an empty sieve")
		}
	}
}

// newcomers is a store in which ever new keys come and old ones go, with a memory that has room for few keys and a sieve for most of them.
type newcomers struct {
	t    *testing.T
	rng  *rand.Rand
	fs   vfs.FS
	st   *storage.Store
	s    *Store
	dirs int
	born int // keys that were ever made
	// spared counts the keys of which the sieve alone said that they do not live, filled how often the sieve was filled by a walk.
	spared, filled int
}

// newcomersBytes is memory for some thirty keys and a sieve for five hundred; newcomersLive are about as many as live.
const newcomersBytes, newcomersLive = 4000, 300

func openNewcomers(t *testing.T, rng *rand.Rand) *newcomers {
	n := &newcomers{t: t, rng: rng, fs: vfs.NewMem()}
	n.st = n.openStore("store0")
	n.s = open(t, n.st, newcomersBytes)
	t.Cleanup(func() {
		if err := n.st.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *newcomers) openStore(dir string) *storage.Store {
	n.t.Helper()
	st, err := storage.Open(storage.Config{FS: n.fs, Dir: dir})
	if err != nil {
		n.t.Fatal(err)
	}
	return st
}

func (n *newcomers) key(i int) []byte { return fmt.Appendf(nil, "key%06d", max(0, i)) }

// change writes a new key or an old one, or deletes one or several.
func (n *newcomers) change(c *Command) {
	old := n.born - n.rng.IntN(newcomersLive+1)
	switch n.rng.IntN(12) {
	case 0:
		c.DeleteRange(kv.KeyRange{Key: n.key(old - 30), End: n.key(old)}, nil)
		c.DeleteRange(kv.KeyRange{Key: n.key(0), End: n.key(n.born - newcomersLive)}, nil)
	case 1, 2:
		c.DeleteRange(kv.KeyRange{Key: n.key(old)}, nil)
	case 3, 4, 5:
		c.Set(n.key(old), []byte("changed"), 0, false)
	default:
		for range 1 + n.rng.IntN(5) {
			c.Set(n.key(n.born), []byte("value"), kv.LeaseID(n.rng.IntN(2)), false)
			n.born++
		}
	}
}

// upkeep does what goes on beside the writer: flushes, steps of compactions and of walks, a start, a state taken over.
func (n *newcomers) upkeep() (err error) {
	switch n.rng.IntN(30) {
	case 0:
		return n.st.Flush()
	case 1:
		batch := n.st.NewBatch()
		run := n.s.Begin(batch)
		defer run.Drop()
		if at := run.Revision() - kv.Revision(n.rng.IntN(50)); at > run.Compacted() {
			err = run.Compact(at)
		}
		err = errors.Join(err, run.Seal(), batch.Commit(), batch.Close())
		run.Publish()
	case 2, 3, 4:
		_, err = n.s.CompactStep(1 + n.rng.IntN(100))
	case 5:
		if n.rng.IntN(20) == 0 {
			n.s = open(n.t, n.st, newcomersBytes)
		}
	case 6:
		if n.rng.IntN(20) == 0 {
			n.replace()
		}
	default:
		before := n.s.recent.sifts
		_, err = n.s.RecallStep(1 + n.rng.IntN(80))
		if n.s.recent.sifts == siftWhole && before != siftWhole {
			n.filled++
		}
	}
	return err
}

// replace puts a copy of the store, in which more was written, in its place.
func (n *newcomers) replace() {
	n.dirs++
	dir := fmt.Sprint("store", n.dirs)
	if err := n.st.Checkpoint(dir); err != nil {
		n.t.Fatal(err)
	}
	st := n.openStore(dir)
	next := open(n.t, st, newcomersBytes)
	for range n.rng.IntN(20) {
		write(n.t, st, next, n.change)
	}
	n.s.Replace(next)
}

// wrong tells which of the keys made last stands otherwise than the database says, nil if none.
func (n *newcomers) wrong() (key []byte) {
	batch := n.st.NewBatch()
	defer batch.Close()
	run := n.s.Begin(batch)
	defer run.Drop()
	for i := n.born - 2*newcomersLive; i < n.born+5; i++ {
		key := n.key(i)
		got, want := bothStandings(run, key)
		if run.Err() != nil {
			n.t.Fatal(run.Err())
		}
		if got != want {
			return key
		}
		if _, known := n.s.recent.get(n.s.recent.hash(key), key); known == sifted && !got.lives() {
			n.spared++
		}
	}
	return nil
}

// TestNewcomers: how a key stands is as the database says, whatever the sieve spares: while keys come and go, so that it is full at times and
// filled anew; beside compactions, starts, and states taken over from others.
func TestNewcomers(t *testing.T) {
	seed := seedOf(t)
	n := openNewcomers(t, rand.New(rand.NewPCG(seed, 3)))
	if n.s.recent.sifts != siftWhole {
		t.Fatal("the sieve of an empty store is not whole")
	}
	for i := range 4000 {
		write(t, n.st, n.s, n.change)
		if err := n.upkeep(); err != nil {
			t.Fatal(err)
		}
		if i%10 > 0 {
			continue
		}
		if key := n.wrong(); key != nil {
			t.Fatalf("step %d: %s does not stand as the database says", i, key)
		}
	}
	t.Logf("the sieve spared %d looks and was filled %d times", n.spared, n.filled)
	if n.spared < 5000 || n.filled < 5 {
		t.Fatal("too few to say anything")
	}
}

// TestLostFromSieve: a sieve that has lost keys is noticed by what TestNewcomers looks at.
func TestLostFromSieve(t *testing.T) {
	n := openNewcomers(t, rand.New(rand.NewPCG(seedOf(t), 4)))
	for ; n.born < newcomersLive; n.born++ {
		write(t, n.st, n.s, func(c *Command) { c.Set(n.key(n.born), []byte("value"), 0, false) })
	}
	if key := n.wrong(); key != nil {
		t.Fatalf("%s does not stand as the database says", key)
	}
	for _, p := range n.s.recent.sieve.parts {
		clear(p.blocks)
	}
	if n.wrong() == nil {
		t.Fatal("nobody noticed that the sieve lost all keys")
	}
}

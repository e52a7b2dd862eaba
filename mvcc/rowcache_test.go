package mvcc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast/kv"
)

// TestRowCache: whatever is changed, filled and evicted in between, the cache never answers with a row that was not
// the newest at the revision asked for.
func TestRowCache(t *testing.T) {
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := newRowCache(cacheShards * 1000)
	type past struct {
		rev kv.Rev
		row []byte
	}
	history := map[string][]past{}
	at := func(key string, rev kv.Revision) (last past) {
		for _, p := range history[key] {
			if p.rev.Main <= rev {
				last = p
			}
		}
		return last
	}
	hits, key := 0, "0"
	for rev := kv.Revision(1); rev < 20000; rev++ {
		// A reader that began some revisions ago fills late.
		old := max(rev-kv.Revision(rng.IntN(4)), 0)
		late := fmt.Sprint(rng.IntN(600))
		if rng.IntN(4) == 0 {
			late = key // the key of the change before
		}
		if p := at(late, old); p.row != nil {
			c.fill(c.hash([]byte(late)), []byte(late), p.rev, p.row, old)
		}
		key = fmt.Sprint(rng.IntN(600))
		switch rng.IntN(500) {
		case 0:
			c.purge(rev)
			for k := range history {
				history[k] = append(history[k], past{rev: kv.Rev{Main: rev}})
			}
		default:
			p := past{rev: kv.Rev{Main: rev}, row: bytes.Repeat([]byte(fmt.Sprint(rev)), 1+rng.IntN(30))}
			if rng.IntN(4) == 0 {
				p.row = nil
			}
			c.change([]byte(key), p.rev, p.row, rng.IntN(2) == 0)
			history[key] = append(history[key], p)
		}
		for range 3 {
			key, read := fmt.Sprint(rng.IntN(600)), max(rev-kv.Revision(rng.IntN(3)), 0)
			row, got := c.get(c.hash([]byte(key)), []byte(key), read)
			if row == nil {
				continue
			}
			hits++
			if want := at(key, read); !bytes.Equal(row, want.row) || got != want.rev {
				t.Fatalf("key %s at %s: row of %s, want that of %s", key, read, got, want.rev)
			}
		}
	}
	if hits < 1000 {
		t.Fatalf("only %d hits: the test shows nothing", hits)
	}
	for i := range c.shards {
		s := &c.shards[i]
		bytes := int64(0)
		for _, e := range s.rows {
			bytes += e.bytes()
		}
		if s.bytes != bytes || bytes > s.max {
			t.Fatalf("shard counts %d bytes, holds %d, bound %d", s.bytes, bytes, s.max)
		}
	}
}

// TestRowCacheOff: a cache without room stays empty.
func TestRowCacheOff(t *testing.T) {
	c := newRowCache(-1)
	c.change([]byte("a"), kv.Rev{Main: 2}, []byte("row"), true)
	c.fill(c.hash([]byte("b")), []byte("b"), kv.Rev{Main: 2}, []byte("row"), 3)
	for _, key := range []string{"a", "b"} {
		if row, _ := c.get(c.hash([]byte(key)), []byte(key), 5); row != nil {
			t.Fatalf("%s is cached", key)
		}
	}
}

// TestRowCacheAdmits: a row that was read once leaves those in peace that are read again and again, and these find room in a cache that is full
// of others.
func TestRowCacheAdmits(t *testing.T) {
	const room = 100 // rows of a shard
	row := make([]byte, 100)
	c := newRowCache(cacheShards * room * (100 + 10 + entryOverhead))
	read := func(name string, n int) (hit bool) {
		key := fmt.Appendf(nil, "%s/%06d", name, n)
		hash := c.hash(key)
		if got, _ := c.get(hash, key, 5); got != nil {
			return true
		}
		c.fill(hash, key, kv.Rev{Main: 2}, row, 5)
		return false
	}
	hits := func(name string, n int) (hits int) {
		for i := range n {
			if read(name, i) {
				hits++
			}
		}
		return hits
	}
	if n := hits("a", 100); n != 0 {
		t.Fatalf("%d of 100 rows are known before they were read", n)
	}
	if rows, _ := c.size(); rows > 2 { // two keys may look alike
		t.Errorf("%d of 100 rows are kept that were read once", rows)
	}
	// Full of rows that nobody reads any more, each of which was read twice.
	for i := range 4 * room * cacheShards {
		read("old", i)
		read("old", i)
	}
	full, _ := c.size()
	if full < room*cacheShards*9/10 {
		t.Fatalf("the cache holds %d rows", full)
	}
	const hot = room * cacheShards / 4
	hits("hot", hot)
	hits("hot", hot)
	if n := hits("hot", hot); n < hot*9/10 {
		t.Errorf("%d of %d rows are kept that were read twice", n, hot)
	}
	// Many more than there is room for, read once, beside them.
	for i := range 20 * room * cacheShards {
		read("once", i)
		read("hot", i%hot)
	}
	if n := hits("hot", hot); n < hot*9/10 {
		t.Errorf("%d of %d hot rows are left after many others were read once", n, hot)
	}
}

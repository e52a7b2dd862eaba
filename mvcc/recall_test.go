package mvcc

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast/kv"
	"holdfast/storage"
)

// TestRecall: a store that was opened again knows all keys after some steps, whatever is written between them; a deletion of many keys makes
// it forget all and begin anew; and where there is no room for all it does not begin.
func TestRecall(t *testing.T) {
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	st, s := openMem(t)
	const keys = 5000
	key := func(i int) []byte { return fmt.Appendf(nil, "key%05d", i) }
	for i := 0; i < keys; i += 100 {
		write(t, st, s, func(c *Command) {
			for j := range 100 {
				c.Set(key(i+j), []byte("value"), kv.LeaseID(j%3), false)
			}
		})
	}
	write(t, st, s, func(c *Command) {
		for i := range 500 {
			c.DeleteRange(kv.KeyRange{Key: key(i * 7)}, nil)
		}
	})

	s = open(t, st, keys*standBytes/2) // one generation has room for a quarter of them
	if done, err := s.RecallStep(10 * keys); !done || err != nil || s.recent.living() != 0 {
		t.Fatalf("with room for a quarter of the keys: done %t, %v, %d known", done, err, s.recent.living())
	}

	s = open(t, st, 0)
	for round := range 2 {
		steps := 0
		for done := false; !done; steps++ {
			var err error
			if done, err = s.RecallStep(300); err != nil {
				t.Fatal(err)
			}
			write(t, st, s, func(c *Command) {
				c.Set(key(rng.IntN(keys)), []byte("changed"), 7, false)
				c.DeleteRange(kv.KeyRange{Key: key(rng.IntN(keys))}, nil)
			})
		}
		if s.recent.living() != s.Keys() || steps < 5 {
			t.Fatalf("round %d: %d keys of %d are known after %d steps", round, s.recent.living(), s.Keys(), steps)
		}
		compareAll(t, st, s, keys, key)
		write(t, st, s, func(c *Command) { c.DeleteRange(kv.KeyRange{Key: key(2000 * round), End: key(2000*round + 2000)}, nil) })
		if n := s.recent.living(); n != 0 {
			t.Fatalf("round %d: %d keys are known after a deletion of many", round, n)
		}
	}
}

func open(t *testing.T, st *storage.Store, recentBytes int64) *Store {
	t.Helper()
	s, err := Open(st, Config{RecentBytes: recentBytes, RowCacheBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// compareAll compares what is known of every key with what the database says, and asks it nothing else.
func compareAll(t *testing.T, st *storage.Store, s *Store, keys int, key func(int) []byte) {
	t.Helper()
	batch := st.NewBatch()
	defer batch.Close()
	run := s.Begin(batch)
	defer run.Drop()
	for i := range keys {
		wantStands(t, run, key(i), "when all are known")
		if run.finds != nil {
			t.Fatalf("%s is looked for", key(i))
		}
	}
	if err := run.Err(); err != nil {
		t.Fatal(err)
	}
}

package mvcc

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// TestStandsFromTables: how a key stands is the same whether memtables are searched or not. Small memories, so that keys are forgotten
// before and after they are flushed; single deletions and those of ranges, which make it forget everything; stores that are opened again, and
// recall as much as a step or more.
func TestStandsFromTables(t *testing.T) {
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, size := range []int64{-1, 150, 2_000, 20_000, 200_000} {
		st, err := storage.Open(storage.Config{FS: vfs.NewMem(), Dir: "store"})
		if err != nil {
			t.Fatal(err)
		}
		var s *Store
		spared, recalled := 0, 0
		for i := range 400 {
			if i%100 == 0 || rng.IntN(100) == 0 {
				s = open(t, st, size)
			}
			write(t, st, s, func(c *Command) { changeSome(rng, c) })
			if i%100 == 10 || rng.IntN(20) == 0 {
				if err := st.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			for range i / 100 % 2 * rng.IntN(4) { // in every other store
				before := s.recent.living()
				if _, err := s.RecallStep(1 + rng.IntN(100)); err != nil {
					t.Fatal(err)
				}
				recalled += int(s.recent.living() - before)
			}
			spared += compareStands(t, st, s, fmt.Sprintf("memory of %d bytes, step %d", size, i))
		}
		if size > 2_000 && (spared < 1000 || recalled < 50) {
			t.Errorf("memory of %d bytes: only %d keys were looked for in tables alone, and %d recalled", size, spared, recalled)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

const standKeys = 200

func standKey(i int) []byte { return fmt.Appendf(nil, "key%03d", i) }

func changeSome(rng *rand.Rand, c *Command) {
	switch i := rng.IntN(standKeys); rng.IntN(40) {
	case 0:
		c.DeleteRange(kv.KeyRange{Key: standKey(i), End: standKey(i + 10)}, nil)
	case 1, 2, 3:
		c.DeleteRange(kv.KeyRange{Key: standKey(i)}, nil)
	default:
		c.Set(standKey(i), []byte("value"), kv.LeaseID(rng.IntN(3)), false)
	}
}

// compareStands returns how many keys were looked for in tables alone.
func compareStands(t *testing.T, st *storage.Store, s *Store, when string) (spared int) {
	t.Helper()
	batch := st.NewBatch()
	defer batch.Close()
	run := s.Begin(batch)
	defer run.Drop()
	for i := range standKeys {
		_, known := s.recent.get(s.recent.hash(standKey(i)), standKey(i))
		wantStands(t, run, standKey(i), fmt.Sprintf("%s (known %d, known since %s, in tables %s)", when, known, s.recent.since(), s.tables))
		if known == unknown && run.tables != nil {
			spared++
		}
	}
	if run.Err() != nil {
		t.Fatal(run.Err())
	}
	return spared
}

// wantStands compares how a key stands for run with what the database says.
func wantStands(t *testing.T, run *Run, key []byte, when string) {
	t.Helper()
	if got, want := bothStandings(run, key); got != want {
		t.Fatalf("%s: %s is %+v, not %+v", when, key, got, want)
	}
}

// bothStandings are how a key stands for run, and what the database says.
func bothStandings(run *Run, key []byte) (got, want standing) {
	got, _ = run.baseStands(run.over.hash(key), key)
	want = run.standingOf(run.readAt(run.getter(), key, run.base.revision))
	if !want.lives() {
		want, got.rev = standing{}, kv.Rev{} // when it was deleted is not asked
	}
	return got, want
}

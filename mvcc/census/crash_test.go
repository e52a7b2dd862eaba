package census

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// TestCrash: the census is written in the batch of the changes that it counts, so after a crash it is that of the batch
// the store went back to.
func TestCrash(t *testing.T) {
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 7))
	fs := vfs.NewCrashableMem()
	p := newPair(t, seed)
	saved := []*model{newModel()} // by applied index
	for range 40 {
		st, err := storage.Open(storage.Config{FS: fs, Dir: "store", CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		index := st.Applied().Index
		saved = saved[:index+1]
		p.m = saved[index].clone()
		if p.v, err = Load(st); err != nil {
			t.Fatal(err)
		}
		if p.v.Keys() != p.m.count(nil, nil) {
			t.Fatalf("%d keys at index %d, not %d", p.v.Keys(), index, p.m.count(nil, nil))
		}
		for range 10 {
			p.compare(p.v, p.m)
		}
		for range 1 + rng.IntN(6) {
			batch := st.NewBatch()
			p.editInto(batch)
			batch.SetApplied(kv.Index(len(saved)), 1, nil)
			if err := batch.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := batch.Close(); err != nil {
				t.Fatal(err)
			}
			saved = append(saved, p.m.clone())
			if rng.IntN(4) == 0 {
				if err := st.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

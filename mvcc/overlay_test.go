package mvcc

import (
	"bytes"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"testing"

	"holdfast/kv"
)

// TestOverlay: each key has one chain however many there are, and the chains of a range come in the order of their keys, whenever it is asked for.
func TestOverlay(t *testing.T) {
	seed := seedOf(t)
	for round := range 200 {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		o, all := overlay{seed: maphash.MakeSeed()}, map[string]kv.Revision{}
		kinds := 1 + rng.IntN(3)
		key := func() []byte { // some begin alike, and some are the beginning of others
			k := bytes.Repeat([]byte{'k'}, rng.IntN(20)*rng.IntN(2))
			for range 1 + rng.IntN(6) {
				k = append(k, byte(rng.IntN(kinds)))
			}
			return k
		}
		for i := range 1 + rng.IntN(600) {
			k, rev := key(), kv.Revision(i+1)
			o.set(k, []byte("row"), standing{rev: kv.Rev{Main: rev}}, false)
			all[string(k)] = rev
			if rng.IntN(100) == 0 {
				wantWithin(t, &o, all, key(), key())
			}
		}
		wantWithin(t, &o, all, nil, nil)
		for range 100 {
			k := key()
			v, known := o.get(k, kv.Revision(1<<40))
			if rev, was := all[string(k)]; known != was || v.rev.Main != rev {
				t.Fatalf("%x is known %t at %v, was set %t at %v", k, known, v.rev, was, rev)
			}
		}
	}
}

// wantWithin compares the chains in [lo, hi) with the keys that were set.
func wantWithin(t *testing.T, o *overlay, all map[string]kv.Revision, lo, hi []byte) {
	t.Helper()
	var want, got []string
	for k := range all {
		if k >= string(lo) && (hi == nil || k < string(hi)) {
			want = append(want, k)
		}
	}
	slices.Sort(want)
	for _, c := range o.within(lo, hi) {
		got = append(got, string(c.key))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("between %x and %x are %x, not %x", lo, hi, got, want)
	}
}

package mvcc

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast/kv"
)

// TestRecent: whatever is set and forgotten in between, what is said of a key is true, what was set last is known, the keys that live
// are counted, and the bound holds. Small sizes, so that generations follow each other.
func TestRecent(t *testing.T) {
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, size := range []int64{-1, 0, 500, 10_000, 200_000, 10_000_000} {
		r, all, hits := newRecent(size, 0, 1), map[string]standing{}, 0
		for i := range 20_000 {
			key := fmt.Sprint(rng.IntN(600))
			if rng.IntN(20) == 0 {
				key = fmt.Sprintf("%0*d", rng.IntN(1000), rng.IntN(10))
			}
			s := standing{rev: kv.Rev{Main: kv.Revision(i), Sub: rng.Int64N(1 << 32)}}
			if rng.IntN(3) > 0 {
				s.create, s.version, s.lease, s.size = kv.Revision(rng.Int64()), 1+rng.Int64N(1<<40), kv.LeaseID(rng.Int64()), rng.IntN(1<<32)
			}
			r.set(r.hash([]byte(key)), []byte(key), s, false)
			all[key] = s
			if got, known := r.get(r.hash([]byte(key)), []byte(key)); r.young.takes([]byte(key)) && (known != remembered || got != s) {
				t.Fatalf("%d bytes: %s is %+v (%d), was set to %+v", size, key, got, known, s)
			}
			if rng.IntN(5000) == 0 {
				r.forget()
			}
			if i%500 == 0 {
				hits += checkRecent(t, r, all)
			}
		}
		if size >= 10_000 && hits < 1000 {
			t.Fatalf("%d bytes: only %d hits", size, hits)
		}
		if held := r.young.bytes + r.old.bytes; int64(held) > max(size, 0) {
			t.Fatalf("holds %d bytes of %d", held, size)
		}
	}
}

// checkRecent compares r with all and returns how many keys it knows.
func checkRecent(t *testing.T, r *recent, all map[string]standing) (hits int) {
	living := int64(0)
	for key, want := range all {
		got, known := r.get(r.hash([]byte(key)), []byte(key))
		if known == unknown {
			continue
		}
		hits++
		if got != want {
			t.Fatalf("%s is %+v, want %+v", key, got, want)
		}
		if got.lives() {
			living++
		}
	}
	if living != r.living() {
		t.Fatalf("%d keys live, counted %d", living, r.living())
	}
	return hits
}

package census

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFind: a key is found among bounds as it is by comparing it with each: also where they begin alike, end early or with zeros.
func TestFind(t *testing.T) {
	rng := rand.New(rand.NewPCG(seedOf(t), 0))
	for range 3000 {
		beginning := string(make([]byte, rng.IntN(4))) + "/registry/pods/"[:rng.IntN(15)]
		key := func() string {
			if rng.IntN(5) == 0 {
				return beginning[:rng.IntN(len(beginning)+1)]
			}
			k := []byte(beginning)
			for range rng.IntN(12) {
				k = append(k, byte(rng.IntN(3))*'o')
			}
			return string(k)
		}
		keys := []string{""}
		for range rng.IntN(nodeMax) {
			keys = append(keys, key())
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		from := rng.IntN(len(keys)) // a node is anywhere in the tree
		b := boundsOf(keys[from:from+rng.IntN(len(keys)-from)], keys[len(keys)-1:])
		for range 30 {
			k := key()
			for _, before := range []bool{false, true} {
				want := 0
				for i, bound := range b.keys[1:] {
					if bound < k || !before && bound == k {
						want = i + 1
					}
				}
				if got := b.find([]byte(k), before); got != want {
					t.Fatalf("%q (before: %t) is at %d of %q, not at %d", k, before, got, b.keys, want)
				}
			}
		}
	}
}

package head

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"testing"
	"time"
)

// TestWord: words sort as the keys do, but for those that are the same; what two keys share is what both begin with.
func TestWord(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	key := func() []byte {
		b := make([]byte, rng.IntN(20))
		for i := range b {
			b[i] = byte(rng.IntN(3)) * 127
		}
		return b
	}
	for range 100_000 {
		a, b := key(), key()
		shared := SharedLen(a, b)
		if !bytes.Equal(a[:shared], b[:shared]) || shared < min(len(a), len(b)) && a[shared] == b[shared] {
			t.Fatalf("%x and %x share %d bytes", a, b, shared)
		}
		if words := cmp.Compare(Word(a, shared), Word(b, shared)); words != 0 && words != bytes.Compare(a, b) {
			t.Fatalf("the words of %x and %x sort other than they do", a, b)
		}
		if got := Word(string(a), shared); got != Word(a, shared) {
			t.Fatalf("%x has the word %x as a string, %x as bytes", a, got, Word(a, shared))
		}
	}
}

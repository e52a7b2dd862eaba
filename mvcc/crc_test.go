package mvcc

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestConcat: sums of parts combine to the sum of the whole, for short parts, long ones and none.
func TestConcat(t *testing.T) {
	rng := rand.New(rand.NewPCG(seedOf(t), 0))
	for range 200 {
		var c concat
		var all []byte
		for range rng.IntN(6) {
			part := make([]byte, []int{0, 1, 17, 300, shiftsKept - 1, shiftsKept, 100_000}[rng.IntN(7)])
			for i := range part {
				part[i] = byte(rng.Uint32())
			}
			c.append(crc32.Checksum(part, castagnoli), len(part))
			all = append(all, part...)
		}
		if want := crc32.Checksum(all, castagnoli); c.sum != want {
			t.Fatalf("sum of %d bytes is %x, not %x", len(all), c.sum, want)
		}
		head := crc32.Checksum([]byte("head"), castagnoli)
		if got, want := join(head, c.sum, uint64(len(all))), crc32.Update(head, castagnoli, all); got != want {
			t.Fatalf("joined sum is %x, not %x", got, want)
		}
	}
}

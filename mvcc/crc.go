package mvcc

import "math/bits"

// concat is the CRC-32C of a sequence of rows, computed from the rows' own sums and lengths: appending a row shifts
// the sum so far by the length of the row, which is a multiplication by x^(8·length) modulo the polynomial.
type concat struct {
	sum uint32
	// shifts holds x^(8n) for the lengths met so far, 0 where not computed.
	shifts [shiftsKept]uint32
}

// shiftsKept covers the lengths of nearly all rows; longer ones are computed each time (0.3 µs).
const shiftsKept = 4096

// append adds a row of n bytes with the given sum.
func (c *concat) append(sum uint32, n int) {
	c.sum = multiply(c.shift(n), c.sum) ^ sum
}

func (c *concat) shift(n int) uint32 {
	if n >= shiftsKept {
		return powerOfX(uint64(n) * 8)
	}
	if c.shifts[n] == 0 {
		c.shifts[n] = powerOfX(uint64(n) * 8)
	}
	return c.shifts[n]
}

// join is the sum of the bytes of a followed by n bytes whose sum is b.
func join(a, b uint32, n uint64) uint32 { return multiply(powerOfX(n*8), a) ^ b }

// polynomial is Castagnoli's, its highest power left out, the coefficient of x^0 in the highest bit.
const polynomial = 0x82f63b78

// multiply gives a·b modulo the polynomial.
func multiply(a, b uint32) uint32 {
	var p uint32
	for ; a != 0; a <<= 1 {
		p ^= b & uint32(int32(a)>>31)
		b = b>>1 ^ polynomial&-(b&1)
	}
	return p
}

// squares holds x^(2^i) modulo the polynomial.
var squares = func() (s [64]uint32) {
	s[0] = 1 << 30 // x
	for i := 1; i < len(s); i++ {
		s[i] = multiply(s[i-1], s[i-1])
	}
	return s
}()

// powerOfX gives x^n modulo the polynomial.
func powerOfX(n uint64) uint32 {
	p := uint32(1 << 31) // x^0
	for ; n != 0; n &= n - 1 {
		p = multiply(p, squares[bits.TrailingZeros64(n)])
	}
	return p
}

// Package head compares keys by a word of their bytes, which is kept beside others where keys themselves would lie all over memory.
//
//	Units    bytes; a word is eight of them
//
// It has no state.
package head

import "encoding/binary"

// WordBytes is how many bytes of a key a word holds.
const WordBytes = 8

// Key is a key as its users hold it.
type Key interface{ ~[]byte | ~string }

// Word is the bytes of a key from i on, as a number that sorts as they do. Those that the key does not have are zeros, so that two keys with the same word have
// still to be compared.
func Word[K Key](key K, i int) uint64 {
	var b [WordBytes]byte
	copy(b[:], key[min(i, len(key)):])
	return binary.BigEndian.Uint64(b[:])
}

// SharedLen is the length of the longest beginning that two keys share.
func SharedLen[K Key](a, b K) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

package main

import "testing"

// Goal: the room for garbage is full size without a limit and a share of a small heap. Method: a table.
func TestGCRoomFor(t *testing.T) {
	const m = 1 << 20
	for _, c := range []struct{ heap, want int64 }{{0, 32 * m}, {48 * m, 12 * m}, {128 * m, 32 * m}, {4096 * m, 32 * m}} {
		if got := gcRoomFor(c.heap); got != c.want {
			t.Errorf("a heap of %d MiB: %d bytes, want %d", c.heap/m, got, c.want)
		}
	}
}

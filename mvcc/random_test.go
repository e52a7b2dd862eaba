package mvcc

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/storage"
)

// seedOf takes the seed of a random test from HOLDFAST_SEED or the clock and prints it.
func seedOf(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOLDFAST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("repeat with HOLDFAST_SEED=%d", seed)
	return seed
}

// TestRandom: whatever is asked of the store after random commands, the model answers the same.
func TestRandom(t *testing.T) {
	seed := seedOf(t)
	for i := range uint64(6) {
		p := newPair(t, seed+i)
		for step := range 60 {
			p.run()
			p.compareReads()
			switch p.rng.IntN(12) {
			case 0:
				if err := p.st.Flush(); err != nil {
					t.Fatal(err)
				}
			case 1:
				p.finishCompaction()
			case 2, 3:
				if _, err := p.s.CompactStep(1 + p.rng.IntN(4)); err != nil {
					t.Fatal(err)
				}
			case 4:
				if step%3 == 0 {
					p.compareAll()
				}
			}
		}
		p.compareAll()
		p.compactTables()
		p.compareAll()
		p.close()
	}
}

// TestCrash: after a crash the store is exactly where some run ended, and going on from there leads to the same data.
// HOLDFAST_CRASHES sets the number of crashes.
func TestCrash(t *testing.T) {
	seed := seedOf(t)
	crashes := 60
	if s := os.Getenv("HOLDFAST_CRASHES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		crashes = n
	}
	var p *pair
	lost := 0
	for i := range crashes {
		if i%10 == 0 {
			if p != nil {
				p.close()
			}
			p = newPair(t, seed+uint64(i))
		}
		lost += p.crashOnce()
	}
	p.close()
	t.Logf("%d crashes took back %d runs", crashes, lost)
}

// crashOnce runs a while with flushes and compaction steps, crashes with a random part of what was not synced, and
// compares. It returns how many runs the crash took back.
func (p *pair) crashOnce() int {
	var durable storage.Applied
	for range 1 + p.rng.IntN(20) {
		p.run()
		if p.rng.IntN(4) == 0 {
			if _, err := p.s.CompactStep(1 + p.rng.IntN(10)); err != nil {
				p.t.Fatal(err)
			}
		}
		if p.rng.IntN(8) == 0 {
			if err := p.st.Flush(); err != nil {
				p.t.Fatal(err)
			}
			applied, err := p.st.Durable()
			if err != nil || applied.Index != p.index {
				p.t.Fatalf("durable index %d (%v) after a flush at %d", applied.Index, err, p.index)
			}
			durable = applied
		}
	}
	if p.rng.IntN(10) == 0 {
		p.compactTables()
		durable, _ = p.st.Durable()
	}
	before := p.index
	crashed := p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: p.rng.IntN(101), RNG: p.rng})
	p.close()
	p.fs = crashed
	p.open()
	if p.index < durable.Index {
		p.t.Fatalf("opened at index %d, below the durable %d", p.index, durable.Index)
	}
	p.compareAll()
	return int(before - p.index)
}

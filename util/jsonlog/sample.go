package jsonlog

import (
	"hash/maphash"
	"log/slog"
	"sync"
	"time"
)

// etcd's numbers: of one message in one second the first hundred, then every hundredth.
const (
	sampleTick  = time.Second
	sampleFirst = 100
	sampleThen  = 100

	// sampleSlots bounds the memory; messages that share a slot are counted together, which only matters in a flood.
	sampleSlots = 4096
)

// sampler thins out a message that repeats. It reads no clock: a record brings its time.
type sampler struct {
	seed maphash.Seed

	mu    sync.Mutex // guards slots
	slots [sampleSlots]struct {
		until time.Time // end of the second being counted
		n     uint64
	}
}

func newSampler() *sampler { return &sampler{seed: maphash.MakeSeed()} }

// admit reports whether the record is to be written.
func (s *sampler) admit(now time.Time, level slog.Level, msg string) bool {
	var h maphash.Hash
	h.SetSeed(s.seed)
	h.WriteString(msg)
	h.WriteByte(byte(level))
	slot := &s.slots[h.Sum64()%sampleSlots]

	s.mu.Lock()
	defer s.mu.Unlock()
	if now.After(slot.until) {
		slot.until, slot.n = now.Add(sampleTick), 0
	}
	slot.n++
	return slot.n <= sampleFirst || (slot.n-sampleFirst)%sampleThen == 0
}

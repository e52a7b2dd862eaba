package server

import (
	"testing"

	"holdfast/mvcc"
	"holdfast/storage"
)

// Goal: the division of memory is the one that was meant. Method: a table.
func TestMemoryFor(t *testing.T) {
	const m = 1 << 20
	full := Memory{96 * m, 16 * m, 8 * m, 16 * m, 128 * m, 32 * m, 64 * m, 16 * m, 10000, 128 * m, 64 * m, 0}
	with := func(p Memory, heap int64) Memory { p.HeapBytes = heap; return p }
	for _, c := range []struct {
		limit int64
		want  Memory
	}{
		{0, Memory{}},
		{-1, Memory{}},
		{1, with(Memory{4 * m, 4 * m, 2 * m, m / 4, m / 16, 2 * m, 8 * m, 2 * m, 256, 8 * m, 8 * m, 0}, 48*m)},
		{64 * m, with(Memory{6 * m, 4 * m, 2 * m, m, 8 * m, 2 * m, 8 * m, 2 * m, 625, 8 * m, 8 * m, 0}, 48*m)},
		{256 * m, with(Memory{24 * m, 4 * m, 2 * m, 4 * m, 32 * m, 8 * m, 16 * m, 4 * m, 2500, 32 * m, 16 * m, 0}, 192*m)},
		{512 * m, with(Memory{48 * m, 8 * m, 4 * m, 8 * m, 64 * m, 16 * m, 32 * m, 8 * m, 5000, 64 * m, 32 * m, 0}, 384*m)},
		{1024 * m, with(full, 768*m)},
		{64 << 30, with(full, 64<<30-256*m)},
	} {
		if got := MemoryFor(c.limit); got != c.want {
			t.Errorf("limit %d:\n got %+v\nwant %+v", c.limit, got, c.want)
		}
	}
}

// Goal: a limit never gives more than no limit does, more memory never means less for a part, and from 128 MiB on the named parts leave half of
// the heap to calls and garbage. Method: all sizes in small steps.
func TestMemoryForGrows(t *testing.T) {
	var last Memory
	for limit := int64(1); limit < 2<<30; limit += 1 << 20 {
		p := MemoryFor(limit)
		if p.CacheBytes < last.CacheBytes || p.MemTableBytes < last.MemTableBytes || p.FlushBytes < last.FlushBytes || p.RowCacheBytes < last.RowCacheBytes || p.RecentBytes < last.RecentBytes ||
			p.WatchLogBytes < last.WatchLogBytes || p.QueueBytes < last.QueueBytes || p.KeptBytes < last.KeptBytes || p.Calls < last.Calls || p.AnswerBytes < last.AnswerBytes || p.HeapBytes < last.HeapBytes {
			t.Fatalf("limit %d gives %+v, a smaller one %+v", limit, p, last)
		}
		if p.CacheBytes > storage.CacheBytesDefault || p.MemTableBytes > storage.MemTableBytesDefault || p.RowCacheBytes > mvcc.RowCacheBytesDefault ||
			uint64(p.FlushBytes)*storage.MemTableBytesDefault > p.MemTableBytes*storage.FlushBytesDefault {
			t.Fatalf("limit %d gives %+v", limit, p)
		}
		held := p.CacheBytes + 2*int64(p.MemTableBytes) + p.RowCacheBytes + p.RecentBytes + int64(p.WatchLogBytes)
		if limit >= 128<<20 && 2*held > p.HeapBytes {
			t.Fatalf("limit %d: caches and tables hold %d of a heap of %d", limit, held, p.HeapBytes)
		}
		last = p
	}
}

package storage

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// openMuch opens a store with 2 MB in tables and a cache of blocks of 4 MB, of which tables in memory take next to nothing.
func openMuch(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Config{FS: vfs.NewMem(), Dir: "store", CacheBytes: 4 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := s.NewBatch()
	for i := range 2000 {
		b.Set(TableMeta.Key(fmt.Append(nil, i)), make([]byte, 1000))
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	return s
}

func readAll(t *testing.T, s *Store) {
	t.Helper()
	it, err := s.Scan(TableMeta, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for it.Next() {
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSpare: who reads everything within Spare leaves nothing in the cache of blocks, and afterwards it is filled as before.
func TestSpare(t *testing.T) {
	s := openMuch(t)
	release, err := s.Spare()
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, s)
	release()
	if n := s.Cached(); n > 100<<10 {
		t.Errorf("%d bytes are left in the cache", n)
	}
	readAll(t, s)
	if n := s.Cached(); n < 1<<20 {
		t.Errorf("only %d bytes are cached afterwards", n)
	}
}

// TestSteady: who reads everything within Steady does not make the cache of blocks larger than it may be, and what is there stays as large.
func TestSteady(t *testing.T) {
	const tables = 2 * 256 << 10 // what the tables in memory leave of their room comes on top
	s := openMuch(t)
	for _, most := range []int64{0, 1 << 20} {
		release, err := s.Steady(most)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, s)
		release()
		if n := s.Cached(); n > max(most, 512<<10)+tables || n < most/2 {
			t.Errorf("%d bytes are cached of at most %d", n, most)
		}
	}
	readAll(t, s)
	if n := s.Cached(); n < 2<<20 {
		t.Errorf("only %d bytes are cached afterwards", n)
	}
}

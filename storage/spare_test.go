package storage

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSpare: who reads everything within Spare leaves nothing in the cache of blocks, and afterwards it is filled as before.
func TestSpare(t *testing.T) {
	const cache = 4 << 20
	s, err := Open(Config{FS: vfs.NewMem(), Dir: "store", CacheBytes: cache})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
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
	held := func() int64 { return s.gen.Load().cache.Metrics().Size }
	readAll := func() {
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
	release, err := s.Spare()
	if err != nil {
		t.Fatal(err)
	}
	readAll()
	release()
	if n := held(); n > 100<<10 {
		t.Errorf("%d bytes are left in the cache", n)
	}
	readAll()
	if n := held(); n < 1<<20 {
		t.Errorf("only %d bytes are cached afterwards", n)
	}
}

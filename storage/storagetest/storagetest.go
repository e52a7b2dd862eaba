// Package storagetest makes stores in memory for tests of what is kept in them.
//
//	Errors  end the test
package storagetest

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/storage"
)

// Open opens an empty store, which is closed when the test ends.
func Open(t testing.TB) *storage.Store {
	t.Helper()
	store, err := storage.Open(storage.Config{FS: vfs.NewMem(), Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// Commit runs a change in a batch of its own and commits it.
func Commit(t testing.TB, store *storage.Store, change func(*storage.Batch)) {
	t.Helper()
	batch := store.NewBatch()
	defer batch.Close()
	change(batch)
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
}

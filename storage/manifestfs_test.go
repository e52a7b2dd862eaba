package storage

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/util/durable"
)

// TestOpenSurvivesCrashes crashes while an existing database is opened and written to, before each operation on the disk, with a
// random part of what was not synced: it opens again each time. Every start begins a new manifest.
func TestOpenSurvivesCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	made := vfs.NewCrashableMem()
	if err := errors.Join(made.MkdirAll("member", 0o700), durable.Names(made, ""), Create(Config{FS: made, Dir: "member/store"})); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		disk := made.CrashClone(vfs.CrashCloneCfg{})
		var mu sync.Mutex // guards images and rng: the database removes files in the background
		var images []*vfs.MemFS
		watched := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				mu.Lock()
				defer mu.Unlock()
				images = append(images, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
			}
			return nil
		}))
		s, err := Open(Config{FS: watched, Dir: "member/store"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for i, image := range images {
			s, err := Open(Config{FS: image, Dir: "member/store"})
			if err != nil {
				t.Fatalf("after a crash at operation %d of %d: %v", i, len(images), err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

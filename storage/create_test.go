package storage

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/util/durable"
)

// TestCreateAppearsWhole crashes while a database is made, after every operation on the disk: afterwards there is none, or
// one that opens.
func TestCreateAppearsWhole(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for at := 0; ; at++ {
		disk := vfs.NewCrashableMem()
		if err := errors.Join(disk.MkdirAll("member", 0o700), durable.Names(disk, "")); err != nil {
			t.Fatal(err)
		}
		var crashed *vfs.MemFS
		crash := func() {
			crashed = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		}
		var mu sync.Mutex // guards n and crashed: the database removes files in the background
		n := 0
		watched := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				mu.Lock()
				defer mu.Unlock()
				if n == at {
					crash()
				}
				n++
			}
			return nil
		}))
		if err := Create(Config{FS: watched, Dir: "member/store"}); err != nil {
			t.Fatal(err)
		}
		done := crashed == nil
		if done {
			crash()
		}
		if _, err := crashed.Stat("member/store"); errors.Is(err, fs.ErrNotExist) {
			if done {
				t.Fatal("a database that was made is gone")
			}
			if err := Create(Config{FS: crashed, Dir: "member/store"}); err != nil {
				t.Fatalf("after a crash at operation %d: %v", at, err)
			}
		}
		s, err := Open(Config{FS: crashed, Dir: "member/store"})
		if err != nil {
			t.Fatalf("after a crash at operation %d: %v", at, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if done {
			t.Logf("crashed at %d operations", at)
			return
		}
	}
}

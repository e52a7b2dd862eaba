package server

import (
	"flag"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var seedFlag = flag.Uint64("server.seed", 0, "seed of the random tests; 0 draws one")

// drawSeed gives the seed of a random test and says how to have it again.
func drawSeed(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("go test ./server -run %s -server.seed=%d", t.Name(), seed)
	return seed
}

// stuckFS is a disk on which syncs of the raft log take until they are let go.
type stuckFS struct {
	vfs.FS
	mu    sync.Mutex // guards the field below
	until chan struct{}
}

func newStuckFS(fs vfs.FS) *stuckFS {
	s := &stuckFS{}
	s.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(s.hold))
	return s
}

// stick makes syncs of the raft log wait until release is called.
func (s *stuckFS) stick() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until := make(chan struct{})
	s.until = until
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.until = nil
		close(until)
	}
}

func (s *stuckFS) hold(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
	default:
		return nil
	}
	if !strings.Contains(op.Path, "wal") {
		return nil
	}
	s.mu.Lock()
	until := s.until
	s.mu.Unlock()
	if until != nil {
		<-until
	}
	return nil
}

// crashingFS is a disk that remembers how it would be after a crash before each of its operations that change something:
// with all that was not synced lost, and with half of it lost at random.
type crashingFS struct {
	vfs.FS
	base *vfs.MemFS
	rng  *rand.Rand

	mu      sync.Mutex // guards the field below
	crashes []*vfs.MemFS
}

func newCrashingFS(seed uint64) *crashingFS {
	c := &crashingFS{base: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed, 0))}
	c.FS = errorfs.Wrap(c.base, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			c.crash()
		}
		return nil
	}))
	return c
}

// crash adds the disk as it is now and returns how many there were before.
func (c *crashingFS) crash() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.crashes)
	c.crashes = append(c.crashes, c.base.CrashClone(vfs.CrashCloneCfg{}), c.base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: c.rng}))
	return n
}

// fullFS is a disk of which the tests say how much is free.
type fullFS struct {
	vfs.FS
	mu          sync.Mutex // guards the fields below
	total, free uint64
	err         error
}

// GetDiskUsage implements vfs.FS.
func (f *fullFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return vfs.DiskUsage{TotalBytes: f.total, AvailBytes: f.free, UsedBytes: f.total - f.free}, f.err
}

func (f *fullFS) set(free uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free, f.err = free, err
}

package server

import (
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

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

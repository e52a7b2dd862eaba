package storage

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A flush is due after Config.FlushBytes of committed batches, so that a restart replays little, or when the oldest change
// that is not durable is FlushAge old, so that the raft log of a quiet member can be released.
const (
	FlushBytesDefault = 32 << 20
	FlushAge          = 60 * time.Second
)

// flushState knows what is not durable yet.
type flushState struct {
	mu    sync.Mutex // guards the fields below; released before any I/O
	dirty int64      // bytes committed since the last flush began
	since time.Time  // when the first of them came
	// flushing is what the flushes under way make durable, in bytes.
	flushing int64
	// durable is the applied cursor that would survive a crash.
	durable Applied

	stale atomic.Bool // a flush has ended since durable was read
}

func (f *flushState) committed(n int, now func() time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirty == 0 && now != nil {
		f.since = now()
	}
	f.dirty += int64(n)
}

// begin takes what is dirty as being flushed and returns how to take in what became of it.
func (f *flushState) begin() (end func(flushed bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dirty, since := f.dirty, f.since
	f.dirty = 0
	f.flushing += dirty
	return func(flushed bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.flushing -= dirty
		if !flushed {
			f.dirty += dirty
			f.since = since
		}
	}
}

// Unflushed is what has been committed and is not durable yet, in bytes: about what the disk must have room for.
func (s *Store) Unflushed() int64 {
	s.flush.mu.Lock()
	defer s.flush.mu.Unlock()
	return s.flush.dirty + s.flush.flushing
}

// FlushDue tells whether it is time to call Flush.
func (s *Store) FlushDue(now time.Time) bool {
	s.flush.mu.Lock()
	defer s.flush.mu.Unlock()
	if s.flush.dirty == 0 {
		return false
	}
	if failpointStoreFlushDue() {
		return true
	}
	return s.flush.dirty >= orDefault(s.cfg.FlushBytes, FlushBytesDefault) || (s.cfg.Now != nil && now.Sub(s.flush.since) >= FlushAge)
}

// Flush makes everything committed so far durable and waits for that.
func (s *Store) Flush() error {
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	failpointBeforeCommit()
	end := s.flush.begin()
	done, err := s.db.AsyncFlush()
	if err != nil {
		end(false)
		return fmt.Errorf("flush: %w", err)
	}
	select {
	case <-done:
		end(true)
		failpointAfterCommit()
		return nil
	case <-s.failure:
		end(false)
		return s.Err()
	}
}

// Durable returns the applied cursor that a crash would leave, read back from what is on disk: the raft log may be
// released below its index.
func (s *Store) Durable() (Applied, error) {
	if err := s.acquire(); err != nil {
		return Applied{}, err
	}
	defer s.release()
	if s.flush.stale.Swap(false) {
		a, err := s.readApplied(&pebble.IterOptions{OnlyReadGuaranteedDurable: true})
		if err != nil {
			s.flush.stale.Store(true)
			return Applied{}, err
		}
		s.flush.mu.Lock()
		if a.Index > s.flush.durable.Index {
			s.flush.durable = a
		}
		s.flush.mu.Unlock()
	}
	s.flush.mu.Lock()
	defer s.flush.mu.Unlock()
	return s.flush.durable, nil
}

// Checkpoint writes a copy of the store as it is now into dir, which must not exist; table files are shared by hard
// links where the file system can.
func (s *Store) Checkpoint(dir string) error {
	if err := s.Flush(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	if err := s.db.Checkpoint(dir); err != nil {
		return fmt.Errorf("checkpoint into %s: %w", dir, err)
	}
	return nil
}

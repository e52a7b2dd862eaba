package storage

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A flush is due after Config.FlushBytes of committed batches, so that a restart replays little, or when the oldest change
// that is not durable is FlushAge old, so that the raft log of a quiet member can be released.
const (
	FlushBytesDefault = MemTableBytesDefault / 2
	FlushAge          = 60 * time.Second
)

// flushState knows what is not durable yet.
type flushState struct {
	mu    sync.Mutex // guards the fields below; released before any I/O
	dirty int64      // bytes committed since the last flush began
	since time.Time  // when the first of them came
	// flushing is what the flushes under way make durable, in bytes.
	flushing int64
	// byItself is the part of dirty that a flush makes durable which Pebble began by itself, because rows take more room in memory than in a batch. It does
	// not make another flush due, which would leave a table of what little came since.
	byItself int64
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
	f.dirty, f.byItself = 0, 0
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

// pebbleBegins hears that Pebble begins a flush. One while another is under way that was asked for may be that one.
func (f *flushState) pebbleBegins() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flushing == 0 {
		f.byItself = f.dirty
	}
}

// pebbleEnds hears that a flush of Pebble has ended. The batch that found no room and made it begin is not in it, so something is dirty yet.
func (f *flushState) pebbleEnds(flushed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flushed && f.byItself > 0 {
		f.dirty = max(1, f.dirty-f.byItself)
	}
	f.byItself = 0
}

// Unflushed is what has been committed and is not durable yet, in bytes: about what the disk must have room for.
func (s *Store) Unflushed() int64 {
	f := &s.gen.Load().flush
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirty + f.flushing
}

// FlushDue tells whether it is time to call Flush.
func (s *Store) FlushDue(now time.Time) bool {
	g := s.gen.Load()
	g.flush.mu.Lock()
	defer g.flush.mu.Unlock()
	if g.flush.dirty == 0 {
		return false
	}
	if failpointStoreFlushDue() {
		return true
	}
	return g.flush.dirty-g.flush.byItself >= orDefault(g.cfg.FlushBytes, FlushBytesDefault) || (g.cfg.Now != nil && now.Sub(g.flush.since) >= FlushAge)
}

// Flush makes everything committed so far durable and waits for that.
func (s *Store) Flush() error {
	g, err := s.enter()
	if err != nil {
		return cmp.Or(s.Err(), err)
	}
	defer g.release()
	return g.flushAll()
}

func (g *generation) flushAll() error {
	if err := g.err(); err != nil {
		return err
	}
	failpointBeforeCommit()
	end := g.flush.begin()
	done, err := g.db.AsyncFlush()
	if err != nil {
		end(false)
		return fmt.Errorf("flush: %w", err)
	}
	select {
	case <-done:
		end(true)
		failpointAfterCommit()
		return nil
	case <-g.failure:
		end(false)
		return g.err()
	}
}

// Durable returns the applied cursor that a crash would leave, read back from what is on disk: the raft log may be
// released below its index.
func (s *Store) Durable() (Applied, error) {
	g, err := s.enter()
	if err != nil {
		return Applied{}, err
	}
	defer g.release()
	if g.flush.stale.Swap(false) {
		a, err := g.readApplied(&pebble.IterOptions{OnlyReadGuaranteedDurable: true})
		if err != nil {
			g.flush.stale.Store(true)
			return Applied{}, err
		}
		g.flush.mu.Lock()
		if a.Index > g.flush.durable.Index {
			g.flush.durable = a
		}
		g.flush.mu.Unlock()
	}
	g.flush.mu.Lock()
	defer g.flush.mu.Unlock()
	return g.flush.durable, nil
}

// Checkpoint writes a copy of the store as it is now into dir, which must not exist; table files are shared by hard
// links where the file system can.
func (s *Store) Checkpoint(dir string) error {
	g, err := s.enter()
	if err != nil {
		return err
	}
	defer g.release()
	if err := g.flushAll(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := g.db.Checkpoint(dir); err != nil {
		return fmt.Errorf("checkpoint into %s: %w", dir, err)
	}
	return nil
}

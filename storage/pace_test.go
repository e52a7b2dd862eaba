package storage

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestPace: a merge of tables asks after every few rows whether it should wait, a flush never.
func TestPace(t *testing.T) {
	var begun, steps atomic.Int64
	s, err := Open(Config{FS: vfs.NewMem(), Dir: "db", Pace: func() func() {
		begun.Add(1)
		return func() { steps.Add(1) }
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const rows = 5000
	for round := range 2 {
		b := s.NewBatch()
		for i := range rows {
			b.Set(TableMeta.Key(fmt.Appendf(nil, "row %d", i)), fmt.Appendf(nil, "round %d", round))
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Sublevels(); n != 2 {
		t.Errorf("level 0 is %d deep after two flushes", n)
	}
	if begun.Load() != 0 || steps.Load() != 0 {
		t.Fatalf("%d merges began and were held up %d times by two flushes", begun.Load(), steps.Load())
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := steps.Load(); begun.Load() == 0 || n < rows/200 {
		t.Errorf("%d merges that left %d rows asked %d times whether to wait", begun.Load(), rows, n)
	}
	if n := s.Sublevels(); n != 0 {
		t.Errorf("level 0 is %d deep after all was merged", n)
	}
}

// mergingDB is a database that has merges to do. Like Pebble it does not ask again after a refusal, until it was offered a merge it had none for.
type mergingDB struct {
	s       *pacedScheduler
	merge   func()         // what a merge does
	merging sync.WaitGroup // the merges under way

	mu                 sync.Mutex // guards the fields below; held while s is asked
	allowed            int
	todo, running, top int // merges; top is how many have run at once
	waiting            bool
}

// need adds n merges.
func (d *mergingDB) need(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.todo += n
	d.ask()
}

// ask begins what may be begun. Caller holds mu.
func (d *mergingDB) ask() {
	for !d.waiting && d.todo > 0 {
		if ok, handle := d.s.TrySchedule(); ok {
			d.run(handle)
		} else {
			d.waiting = true
		}
	}
}

// run begins a merge. Caller holds mu.
func (d *mergingDB) run(handle pebble.CompactionGrantHandle) {
	d.todo--
	d.running++
	d.top = max(d.top, d.running)
	d.merging.Go(func() {
		handle.Started()
		handle.MeasureCPU(pebble.CompactionGoroutinePrimary)
		handle.CumulativeStats(pebble.CompactionGrantHandleStats{})
		d.merge()
		d.mu.Lock()
		d.running--
		d.mu.Unlock()
		handle.Done()
		d.need(0)
	})
}

// GetAllowedWithoutPermission implements pebble.DBForCompaction.
func (d *mergingDB) GetAllowedWithoutPermission() int { return d.allowed }

// GetWaitingCompaction implements pebble.DBForCompaction.
func (d *mergingDB) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = d.waiting && d.todo > 0
	return d.waiting, pebble.WaitingCompaction{}
}

// Schedule implements pebble.DBForCompaction.
func (d *mergingDB) Schedule(handle pebble.CompactionGrantHandle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting = d.waiting && d.todo > 0; !d.waiting {
		return false
	}
	d.run(handle)
	return true
}

func newMergingDB(allowed int, merge, step func()) *mergingDB {
	d := &mergingDB{s: newPacedScheduler(func() func() { return step }), merge: merge, allowed: allowed}
	d.s.Register(1, d)
	return d
}

// Goal: as many merges run at once as are allowed, none is forgotten, and none begins after the end. Method: merges that end one by one.
func TestMergesTakePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, steps := make(chan struct{}), make(chan struct{}, 100)
		d := newMergingDB(2, func() { <-end }, func() { steps <- struct{}{} })
		want := func(when string, running, todo int) {
			t.Helper()
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.running != running || d.todo != todo || d.s.running != running {
				t.Fatalf("%s: %d merges run (%d are counted) and %d wait, want %d and %d", when, d.running, d.s.running, d.todo, running, todo)
			}
		}
		d.need(6)
		want("at first", 2, 4)
		end <- struct{}{}
		want("one has ended", 2, 3)
		d.allowed = 3
		want("a third is allowed", 2, 3)
		end <- struct{}{}
		want("another has ended", 3, 1)
		d.allowed = 1
		end <- struct{}{}
		end <- struct{}{}
		want("one alone is allowed", 1, 1)
		end <- struct{}{}
		want("the last", 1, 0)
		end <- struct{}{}
		want("none", 0, 0)
		d.need(2)
		want("some more", 1, 1)
		d.s.Unregister()
		end <- struct{}{}
		want("after the end", 0, 1)
		if len(steps) != 7 {
			t.Errorf("7 merges were asked %d times whether to wait", len(steps))
		}
	})
}

// Goal: however merges are asked for and end at once, all are done, never more at a time than are allowed. Method: they come from three sides.
func TestMergesAtOnce(t *testing.T) {
	const allowed, each = 3, 2000
	d := newMergingDB(allowed, func() {}, func() {})
	var asking sync.WaitGroup
	for range 3 {
		asking.Go(func() {
			for range each {
				d.need(1)
			}
		})
	}
	asking.Wait()
	d.merging.Wait()
	d.s.Unregister()
	if d.todo != 0 || d.running != 0 || d.s.running != 0 || d.top > allowed {
		t.Errorf("%d merges were not done, %d run (%d are counted), %d ran at once", d.todo, d.running, d.s.running, d.top)
	}
}

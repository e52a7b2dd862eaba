package storage

import "github.com/cockroachdb/pebble/v2"

// pacedScheduler decides as Pebble's own does when tables are merged, and lets Config.Pace hold merges up meanwhile. Flushes it does not concern: a
// merge that waits costs space and reads, a flush that waits would stop writers.
//
// The one within lacks what looks every 100 ms whether more merges at once are allowed than before: the limit changes only where Config.CompactionsMax
// is above 1, and is looked at whenever a merge begins or ends.
type pacedScheduler struct {
	pebble.CompactionScheduler
	pace func() (step func())
}

func newPacedScheduler(pace func() func()) pacedScheduler {
	return pacedScheduler{pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest(), pace}
}

// Register implements pebble.CompactionScheduler.
func (s pacedScheduler) Register(goroutines int, db pebble.DBForCompaction) {
	s.CompactionScheduler.Register(goroutines, pacedDB{db, s.pace})
}

// TrySchedule implements pebble.CompactionScheduler.
func (s pacedScheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	ok, handle := s.CompactionScheduler.TrySchedule()
	if !ok {
		return false, nil
	}
	return true, &pacedMerge{handle, s.pace()}
}

// pacedDB is a database as its scheduler sees it.
type pacedDB struct {
	pebble.DBForCompaction
	pace func() (step func())
}

// Schedule implements pebble.DBForCompaction.
func (d pacedDB) Schedule(handle pebble.CompactionGrantHandle) bool {
	return d.DBForCompaction.Schedule(&pacedMerge{handle, d.pace()})
}

// pacedMerge is what one merge tells of itself.
type pacedMerge struct {
	pebble.CompactionGrantHandle
	step func()
}

// CumulativeStats implements pebble.CompactionGrantHandle. A merge calls it after every 128 rows, holding no locks, and Pebble allows it to wait.
func (m *pacedMerge) CumulativeStats(stats pebble.CompactionGrantHandleStats) {
	m.CompactionGrantHandle.CumulativeStats(stats)
	m.step()
}

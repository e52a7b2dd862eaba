package storage

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// pacedScheduler lets as many merges of tables run at once as the database allows, and lets Config.Pace hold each of them up. Flushes it does not
// concern: a merge that waits costs space and reads, a flush that waits would stop writers.
//
// It decides when the database asks for a merge and when a merge ends, as Pebble's own does. That one also looks every 100 ms whether more merges at once
// are allowed than before, which changes only where Config.CompactionsMax is above 1: here the next merge that ends is soon enough.
type pacedScheduler struct {
	pace func() (step func())
	db   pebble.DBForCompaction // set by Register, before all other calls

	offers sync.Mutex // held while the database is offered a merge; taken before any lock of the database

	mu      sync.Mutex // guards the fields below; taken after any lock of the database
	running int        // merges
	closed  bool
}

func newPacedScheduler(pace func() func()) *pacedScheduler { return &pacedScheduler{pace: pace} }

// Register implements pebble.CompactionScheduler.
func (s *pacedScheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister implements pebble.CompactionScheduler: the database is asked nothing any more when it returns.
func (s *pacedScheduler) Unregister() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.offers.Lock() // waits for the offer under way
	defer s.offers.Unlock()
}

// TrySchedule implements pebble.CompactionScheduler. The database holds locks of its own. Of a merge that is refused it says so when it is offered one.
func (s *pacedScheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasRoom() {
		return false, nil
	}
	s.running++
	return true, &pacedMerge{s, s.pace()}
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (s *pacedScheduler) UpdateGetAllowedWithoutPermission() {}

// hasRoom tells whether another merge may run. Caller holds mu.
func (s *pacedScheduler) hasRoom() bool {
	return !s.closed && s.running < s.db.GetAllowedWithoutPermission()
}

// end says that a merge has ended, and offers its place. Caller holds no locks.
func (s *pacedScheduler) end() {
	s.mu.Lock()
	s.running--
	s.mu.Unlock()
	s.offers.Lock()
	defer s.offers.Unlock()
	for s.offer() {
	}
}

// offer lets the database begin a merge that it was refused before, and tells whether it did. A merge is counted when it has been taken: one that is
// asked for while a place is offered that nobody takes would find none, and none would end after it. Caller holds offers.
func (s *pacedScheduler) offer() bool {
	s.mu.Lock()
	room := s.hasRoom()
	s.mu.Unlock()
	if !room {
		return false
	}
	if waiting, _ := s.db.GetWaitingCompaction(); !waiting || !s.db.Schedule(&pacedMerge{s, s.pace()}) {
		return false
	}
	s.mu.Lock()
	s.running++ // the database asks for none by itself as long as one waits that it was refused, so no other has taken the place
	s.mu.Unlock()
	return true
}

// pacedMerge is what one merge tells of itself.
type pacedMerge struct {
	of   *pacedScheduler
	step func()
}

// Started implements pebble.CompactionGrantHandle.
func (m *pacedMerge) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (m *pacedMerge) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle. A merge calls it after every 128 rows, holding no locks, and Pebble allows it to wait.
func (m *pacedMerge) CumulativeStats(pebble.CompactionGrantHandleStats) { m.step() }

// Done implements pebble.CompactionGrantHandle.
func (m *pacedMerge) Done() { m.of.end() }

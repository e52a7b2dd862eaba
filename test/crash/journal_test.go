package crash

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// op is one write that a client sent: actions that happen together, if the guard holds.
type op struct {
	id      int
	actions []action
	// guard is a key that must have guardMod as its mod revision; empty for none.
	guard    string
	guardMod int64

	// floor is the highest revision anybody had been told when the write was sent: its own must be higher.
	floor int64
	// answered tells that the write was acknowledged before the crash, at revision; changed that it did something.
	answered bool
	revision int64
	changed  bool
}

func (o *op) String() string {
	text := fmt.Sprintf("operation %d", o.id)
	if o.answered {
		text += fmt.Sprintf(", acknowledged at revision %d", o.revision)
	}
	return fmt.Sprintf("%s: %+v", text, o.actions)
}

// leaseFact is what is known of one lease.
type leaseFact struct {
	ttl int64
	// granted tells that it certainly existed, ending that somebody asked to revoke it, ended that this was acknowledged.
	granted, ending, ended bool
	// until is when it may end by itself.
	until time.Time
}

// readFact is the answer to one linearizable read of all keys.
type readFact struct {
	revision int64
	rows     []event
}

// hashFact is the hash of all revisions up to one, taken when compacted was the compacted revision.
type hashFact struct {
	compacted int64
	sum       uint32
}

// journal is what the clients sent and were told. What they are told after the crash does not count: the member that
// says so has no future.
type journal struct {
	mu     sync.Mutex // guards the fields below
	frozen bool
	broken error // the first thing that was wrong while the member ran

	ops    []*op // sent since the last verdict
	lastID int

	// top is the highest revision anybody was told.
	top int64
	// seen holds the events the watcher was sent, by revision, up to lastSeen.
	seen     map[int64][]event
	lastSeen int64

	compacted       int64   // highest revision whose compaction was acknowledged
	compactionAsked []int64 // compactions that may have happened since the last verdict

	leases map[int64]*leaseFact
	reads  []readFact
	hashes map[int64]hashFact
}

func newJournal() *journal {
	return &journal{
		top: 1, lastSeen: 1,
		seen: map[int64][]event{}, leases: map[int64]*leaseFact{}, hashes: map[int64]hashFact{},
	}
}

// freeze is the crash: what comes later does not count. thaw is the start after it.
func (j *journal) freeze() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.frozen = true
}

func (j *journal) thaw() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.frozen = false
}

// note runs f with the lock held unless the crash has come, and tells whether it did.
func (j *journal) note(f func()) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.frozen {
		return false
	}
	f()
	return true
}

// breach notes that something was wrong.
func (j *journal) breach(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken == nil {
		j.broken = fmt.Errorf(format, args...)
	}
}

func (j *journal) breached() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// begin notes that o is about to be sent. It reports false after the crash.
func (j *journal) begin(o *op) bool {
	return j.note(func() {
		j.lastID++
		o.id, o.floor = j.lastID, j.top
		for i := range o.actions {
			if !o.actions[i].deleted {
				o.actions[i].value = fmt.Sprintf("%d/%d ", o.id, i) + o.actions[i].value
			}
		}
		j.ops = append(j.ops, o)
	})
}

// refused notes that o was certainly not carried out.
func (j *journal) refused(o *op) {
	j.note(func() { j.ops = slices.DeleteFunc(j.ops, func(other *op) bool { return other == o }) })
}

// acknowledged notes the answer to o.
func (j *journal) acknowledged(o *op, revision int64, changed bool) {
	j.note(func() {
		o.answered, o.revision, o.changed = true, revision, changed
		j.top = max(j.top, revision)
	})
	if changed && revision <= o.floor {
		j.breach("%v was sent when revision %d was known", o, o.floor)
	}
}

// known is the highest revision anybody was told.
func (j *journal) known() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.top
}

// see takes in one answer of the watch.
func (j *journal) see(events []event) {
	var wrong error
	j.note(func() {
		for len(events) > 0 {
			rev := events[0].mod
			n := slices.IndexFunc(events, func(e event) bool { return e.mod != rev })
			if n < 0 {
				n = len(events)
			}
			if rev != j.lastSeen+1 {
				wrong = fmt.Errorf("the watch delivered revision %d after %d", rev, j.lastSeen)
				return
			}
			j.seen[rev], j.lastSeen, j.top = events[:n:n], rev, max(j.top, rev)
			events = events[n:]
		}
	})
	if wrong != nil {
		j.breach("%w", wrong)
	}
}

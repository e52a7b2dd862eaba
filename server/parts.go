package server

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/lease"
)

// Pieces of a member that do nothing by themselves, for who drives its parts without a Server: the simulator.

// Stores are the directories of stores of a member whose parts somebody else drives: the simulator.
type Stores struct{ dir *dataDir }

// StoresIn are those below root; wal is where the member's raft log is.
func StoresIn(disk vfs.FS, root, wal string) Stores { return Stores{newDataDir(disk, root, wal)} }

// Settle completes what a crash interrupted and says where the store is, or is to be made.
func (s Stores) Settle(log *slog.Logger) (dir string, err error) { return s.dir.settleStore(log) }

// InForce is the directory of the store in force.
func (s Stores) InForce() (dir string, err error) {
	name, err := s.dir.storeInForce()
	return s.dir.path(name), err
}

// Received are the directories of a state received at an index, before and after it is whole.
func (s Stores) Received(index uint64) (unfinished, whole string) {
	whole = s.dir.path(storeReceived(index))
	return whole + storeUnfinished, whole
}

// PutInForce makes the state received at an index the one in force, durably.
func (s Stores) PutInForce(index uint64) error { return s.dir.putInForce(storeReceived(index)) }

// LeaseClock knows when leases end, on the leader.
type LeaseClock struct{ clock *leaseClock }

// NewLeaseClock makes a clock that does not run. checkpoints tells whether what is left of leases is to be agreed on.
func NewLeaseClock(now func() time.Time, checkpoints bool) LeaseClock {
	return LeaseClock{newLeaseClock(now, checkpoints)}
}

// Events is what the state machine is to tell of leases.
func (c LeaseClock) Events() apply.Leases { return c.clock }

// Start makes the clock run in a term with the leases there are, each with extend added to what is left of it.
func (c LeaseClock) Start(term uint64, leases func() []lease.Lease, extend time.Duration) {
	c.clock.start(term, leases, extend)
}

// Stop makes the clock forget everything.
func (c LeaseClock) Stop() { c.clock.stop() }

// Due are the leases that are to be revoked, and those of which the life that is left is to be agreed on, which is taken to
// happen. What does not is due again later.
func (c LeaseClock) Due() (over []kv.LeaseID, checkpoints []lease.Lease) {
	a := c.clock.look()
	return a.over, a.checkpoints
}

// Renew gives a lease its whole life again; alive is false if there is none or it is over. If agreed is not nil, the renewal holds
// only when the members have agreed on it by a checkpoint with nothing remaining, in the clock's term; then agreed is to be called.
func (c LeaseClock) Renew(id kv.LeaseID) (alive bool, agreed func()) {
	r := c.clock.renew(id)
	if !r.found || r.over != nil {
		return false, nil
	}
	if r.shortened {
		agreed = func() { c.clock.whole(id, r.term, r.checkpoints) }
	}
	return true, agreed
}

// Package replica drives go.etcd.io/raft: it turns proposals into committed entries and hands them to the state machine.
//
// A Replica is made of four pieces of work, each a call that ends: Advance runs raft on what has arrived, WriteLog makes
// appended entries durable, ApplyCommitted runs committed entries through the machine, ReadLog reads old entries back for
// followers far behind. Run gives each a goroutine and a wake-up. A simulator makes the calls itself, in the order its
// seed says, and needs no Run.
//
//	Shape   proposals --\                  /--> WriteLog ------\
//	        reads     ---+--> Advance ----+---> ApplyCommitted --+--> inbox --> Advance
//	        messages  --/   (owns raft)    \--> ReadLog -------/
//	                                        \-> Transport
//	        Advance never waits for a disk or a socket. The lists that leave it are unbounded; what stands in them is
//	        bounded by raft: uncommitted bytes, bytes in flight to followers, bytes being applied (limits.go).
//	Units   indexes and terms are raft's; time is counted in ticks of one heartbeat interval
//	Errors  ErrTooManyRequests, ErrStopped, ErrLeaderChanged, ErrTimeout, ErrNotLeader, ErrBadTransferee,
//	        ErrTransferTimeout
//	Source  raft dissertation (Ongaro), 3.10 leadership transfer, 6.4 read index; go.etcd.io/raft doc.go, asynchronous
//	        storage writes; etcd 3.7 for what callers feel
package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"holdfast/util/queue"
)

// Errors that callers get. All may come wrapped.
var (
	// ErrTooManyRequests refuses a proposal because the queue is full or the applier is too far behind.
	ErrTooManyRequests = errors.New("replica: too many requests")
	// ErrStopped answers whoever waits when the replica stops, and everyone who comes later.
	ErrStopped = errors.New("replica: stopped")
	// ErrLeaderChanged ends a read whose question went to a leader that is no longer one. Asking again may help.
	ErrLeaderChanged = errors.New("replica: leader changed")
	// ErrTimeout ends a read that no leader confirmed in time.
	ErrTimeout = errors.New("replica: no leader confirmed the read in time")
	// ErrNotLeader refuses what only the leader can do.
	ErrNotLeader = errors.New("replica: not the leader")
	// ErrBadTransferee refuses to hand the leadership to a member that is unknown or has no vote.
	ErrBadTransferee = errors.New("replica: the new leader must be a voting member")
	// ErrTransferTimeout says that the new leader did not take over before the context ended.
	ErrTransferTimeout = errors.New("replica: the leadership transfer did not end in time")
)

// Log is the durable raft log.
type Log interface {
	// Append writes saves in order. With sync they are durable when it returns, together with all earlier ones.
	Append(saves []Save, sync bool) error
	// Entries reads entries from index lo on, below hi, of about maxBytes together but at least one. It returns none, and
	// no error, if entry lo has been released: a follower may ask for what Compact is only about to tell of. It may be
	// called while Append runs.
	Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error)
}

// Preparer is what a Log may be besides. Prepare is called once the answers to an Append are on their way, for what would make
// a later one wait.
type Preparer interface {
	Prepare() error
}

// Save is one step of the log. Its parts are written in the order of the fields.
type Save struct {
	Snapshot  *raftpb.SnapshotMetadata // the state up to here is safe elsewhere; nil for none
	Entries   []*raftpb.Entry          // follow the last entry, or replace the tail from their first index on
	HardState *raftpb.HardState        // nil when unchanged; last, so that what it calls committed is there whenever it is
}

// Machine is the state machine. One goroutine calls it. Entries come in order, each exactly once after the applied index
// the replica was started with; the machine writes the index and term of the last one with what it changed.
// An error ends the replica: the machine cannot tell how far it got.
type Machine interface {
	// Apply runs normal entries. One without data was put there by raft: it changes nothing but the applied index.
	Apply(entries []*raftpb.Entry) error
	// CheckConfChange says with an error why the change is refused in the machine's present state, the one before entry.
	CheckConfChange(entry *raftpb.Entry, change *raftpb.ConfChange) error
	// ApplyConfChange carries the change out. raft has done so: state is the configuration that results, to be stored with
	// the change and the applied index. For a refused change, refused is the reason, state the old configuration, and only
	// the applied index moves.
	ApplyConfChange(entry *raftpb.Entry, change *raftpb.ConfChange, state *raftpb.ConfState, refused error) error
}

// Snapshots replaces the machine's state as a whole, when the leader no longer has the entries this member lacks. The same
// goroutine calls it as the Machine.
type Snapshots interface {
	// Prepare makes the received state durable beside the present one, which stays in force.
	Prepare(snapshot *raftpb.Snapshot) error
	// Commit puts the prepared state in force. The log has recorded it.
	Commit(snapshot *raftpb.Snapshot) error
}

// Transport carries messages to other members.
type Transport interface {
	// Send takes messages and returns at once. It may lose some: raft repeats. A MsgSnap names a state; the sender attaches
	// the data of that state or a later one, and its outcome is told to ReportSnapshot.
	Send(messages []*raftpb.Message)
}

// State is what a replica continues from: what the log and the machine's store were found to hold.
type State struct {
	HardState *raftpb.HardState // last one in the log; nil for none
	// Entries are those in the log. The first follows Before; there may be some the machine has applied.
	Entries []*raftpb.Entry
	// Before is index and term of what precedes the first entry; zero for a log that is whole.
	Before Position
	// Older are the terms of the entries before Entries that the log still has, oldest first, up to Before; the first one's
	// From is where the log begins. Nil: what was released, or none. Followers far behind are fed from there.
	Older []TermRun
	// Applied is the machine's, from the batch that its store recovered; ConfState is from the same batch.
	Applied   uint64
	ConfState *raftpb.ConfState
}

// Position is a place in the log.
type Position struct{ Index, Term uint64 }

// TermRun says that the entries from index From on, up to the next run, are of one term.
type TermRun struct{ From, Term uint64 }

// Config says what a Replica works with.
type Config struct {
	ID            uint64 // of this member
	ElectionTicks int    // without a word from the leader until an election; heartbeats go out every tick
	PreVote       bool   // ask whether an election would succeed before starting it

	// ReadRetryTicks is after how long an unanswered read index question is asked again, ReadTimeoutTicks after how long it
	// is given up.
	ReadRetryTicks, ReadTimeoutTicks int
	// ReadSeed is the number of the first read index question. It must differ from start to start by more than the
	// questions asked between: an answer to a question of an earlier life must not pass for a fresh one.
	ReadSeed uint64

	Limits Limits // zero fields stand for the defaults in limits.go

	Log       Log
	Machine   Machine
	Snapshots Snapshots // nil: a member that never gets any refuses them
	Transport Transport // nil: a sole member has none

	// LeadershipChanged, if set, is called from Advance for every change, in order. It must return at once.
	LeadershipChanged func(Leadership)
	// ChangeSettled, if set, is called from Advance for every configuration change that the machine has carried out or
	// refused, once this replica's raft would take the next one. It must return at once.
	ChangeSettled func(change *raftpb.ConfChange, refused error)

	Logger *slog.Logger // required
}

// Replica is one member's part in the raft group.
type Replica struct {
	cfg Config

	// What others put in, from any goroutine. Each wakes Advance.
	proposals *proposals
	reads     *reads
	inbox     *queue.Mailbox[event]
	ticks     atomic.Int64
	ticked    atomic.Uint64 // ticks that have passed in the loop
	wake      chan struct{}

	// What others see.
	applied *appliedGate
	status  atomic.Pointer[Status]
	changes *broadcast // told of every change of leadership
	end     *end

	loop    loop    // owned by the caller of Advance
	writer  writer  // owned by the caller of WriteLog
	applier applier // owned by the caller of ApplyCommitted
	reader  reader  // owned by the caller of ReadLog
}

// New returns a replica that continues from state. Nothing moves until Run, or Advance and its companions, are called.
func New(cfg Config, state State) (*Replica, error) {
	cfg.Limits = cfg.Limits.withDefaults()
	w, err := newWindow(state)
	if err != nil {
		return nil, err
	}
	wake := make(chan struct{}, 1)
	r := &Replica{
		cfg:       cfg,
		wake:      wake,
		proposals: newProposals(wake, cfg.Limits),
		reads:     newReads(wake, cfg),
		inbox:     queue.NewMailbox[event](wake),
		applied:   newAppliedGate(state.Applied),
		changes:   newBroadcast(),
		end:       newEnd(),
		writer:    newWriter(cfg.Log),
		applier:   newApplier(),
		reader:    newReader(),
	}
	if err := r.loop.start(cfg, w); err != nil {
		return nil, err
	}
	r.publish()
	return r, nil
}

// newWindow checks what was recovered against itself and builds raft's view of it.
func newWindow(s State) (*window, error) {
	if err := checkEntries(s.Entries, s.Before); err != nil {
		return nil, fmt.Errorf("the raft log is damaged: %w", err)
	}
	last := s.Before.Index + uint64(len(s.Entries))
	switch commit := s.HardState.GetCommit(); {
	case s.Applied < s.Before.Index:
		return nil, fmt.Errorf("the store has applied entry %d, but the raft log begins only at %d", s.Applied, s.Before.Index+1)
	case s.Applied > last:
		return nil, fmt.Errorf("the store has applied entry %d, but the raft log ends at %d", s.Applied, last)
	case commit > last:
		return nil, fmt.Errorf("the raft log ends at %d, but entry %d was committed", last, commit)
	}
	w := &window{
		conf:    s.ConfState,
		first:   s.Before.Index + 1,
		base:    s.Before.Index + 1,
		terms:   termRuns{{From: s.Before.Index, Term: s.Before.Term}},
		applied: s.Applied,
	}
	if len(s.Older) > 0 {
		w.first = s.Older[0].From
		w.terms = append(termRuns(nil), s.Older...)
	}
	if w.conf == nil {
		w.conf = &raftpb.ConfState{}
	}
	w.append(s.Entries)
	w.hard = recoveredState(s, w.terms.at(last))
	return w, nil
}

// recoveredState is the hard state to go on with. What is applied was committed, whether or not the log heard of it. A
// crash may keep entries of a new term and lose the hard state behind them; then nobody was voted for in that term, for a
// vote is durable before it is given.
func recoveredState(s State, lastTerm uint64) *raftpb.HardState {
	hs := &raftpb.HardState{
		Term:   new(s.HardState.GetTerm()),
		Vote:   new(s.HardState.GetVote()),
		Commit: new(max(s.HardState.GetCommit(), s.Applied)),
	}
	if lastTerm > hs.GetTerm() {
		hs.Term, hs.Vote = new(lastTerm), new(raft.None)
	}
	return hs
}

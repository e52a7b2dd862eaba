package replica

import (
	"context"
	"fmt"
	"maps"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// Role is what a replica is in its present term.
type Role uint8

// The roles. A PreCandidate asks whether it could win before it disturbs anyone.
const (
	Follower Role = iota
	PreCandidate
	Candidate
	Leader
)

// String returns the role's name as etcd's tools and logs show it.
func (r Role) String() string {
	switch r {
	case Follower:
		return "StateFollower"
	case PreCandidate:
		return "StatePreCandidate"
	case Candidate:
		return "StateCandidate"
	case Leader:
		return "StateLeader"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

func roleOf(s raft.StateType) Role {
	switch s {
	case raft.StateLeader:
		return Leader
	case raft.StateCandidate:
		return Candidate
	case raft.StatePreCandidate:
		return PreCandidate
	}
	return Follower
}

// Leadership says who leads, as far as this replica knows.
type Leadership struct {
	Term   uint64
	Leader uint64 // member id; 0 when none is known
	Role   Role   // of this replica
	// Settled is true on a leader whose machine has applied an entry of the leader's own term: everything its predecessors
	// committed is in the machine.
	Settled bool
}

// Status is how things stood at the end of a step of Advance.
type Status struct {
	Leadership
	ID      uint64
	Commit  uint64
	Applied uint64
	Last    uint64 // index of the last entry in the log, durable or on its way
	Sole    bool   // this member has the only vote
	Stalled bool   // log or machine have had work for an election timeout and not moved
	// Progress is how far the leader knows each member to be, renewed every tick; nil on others. Not to be changed.
	Progress map[uint64]Progress
}

// Progress is what the leader knows about a member.
type Progress struct {
	Match, Next  uint64 // the member's log is known to hold Match; Next is sent next
	Learner      bool
	RecentActive bool // heard of within the last election timeout
	Snapshot     bool // is being sent a snapshot, or needs one
}

// Status returns how things stand now.
func (r *Replica) Status() Status {
	s := *r.status.Load()
	s.Applied = max(s.Applied, r.applied.index())
	return s
}

// Ticked counts the heartbeat intervals that have passed in the loop. It stands still when the loop does.
func (r *Replica) Ticked() uint64 { return r.ticked.Load() }

// Progress returns what the leader knows about each member at this moment, itself included. Others get ErrNotLeader.
func (r *Replica) Progress(ctx context.Context) (table map[uint64]Progress, err error) {
	asked := r.do(ctx, func() {
		if r.loop.soft.RaftState != raft.StateLeader {
			err = ErrNotLeader
			return
		}
		table = r.loop.progressTable()
	})
	if asked != nil {
		return nil, asked
	}
	return table, err
}

// Stats counts what happened since the replica was made, but for the first two, which say how things are.
type Stats struct {
	Queued      int    // proposals that wait for a leader or for room in the log
	QueuedBytes uint64 // of these
	ReadsFailed uint64 // questions for the read index that ended because the leader changed
	ReadsSlow   uint64 // questions given up, and answers that came after that
}

// Stats returns the numbers of now.
func (r *Replica) Stats() Stats {
	s := Stats{ReadsFailed: r.reads.failed.Load(), ReadsSlow: r.reads.slow.Load()}
	s.Queued, s.QueuedBytes = r.proposals.waiting()
	return s
}

// LeadershipChange returns a channel that is closed at the next change of leadership after the call.
func (r *Replica) LeadershipChange() <-chan struct{} { return r.changes.next() }

// publish shows the present state to callers if it differs from what they see. It comes before anything that depends on
// the state leaves the loop: a vote for another leader is sent only after every caller here can see that this replica
// does not lead any more, and an entry is applied only after its commit index shows. ReadIndex rests on both.
func (r *Replica) publish() {
	l := &r.loop
	now := Status{
		Leadership: l.leadership(),
		ID:         r.cfg.ID,
		Commit:     l.commit,
		Applied:    l.window.applied,
		Last:       l.window.last(),
		Sole:       l.sole(),
		Stalled:    l.stalled(r.cfg.ElectionTicks),
		Progress:   l.progress,
	}
	before := r.status.Load()
	if before != nil && same(before, &now) {
		return
	}
	shown := now // a copy, so that asking without news allocates nothing
	r.status.Store(&shown)
	if before == nil || before.Leadership == now.Leadership {
		return
	}
	r.reads.leadershipChanged(before.Leadership, now.Leadership)
	r.changes.tell()
	if r.cfg.LeadershipChanged != nil {
		r.cfg.LeadershipChanged(now.Leadership)
	}
}

func same(a, b *Status) bool {
	return a.Leadership == b.Leadership && a.Commit == b.Commit && a.Applied == b.Applied && a.Last == b.Last &&
		a.Sole == b.Sole && a.Stalled == b.Stalled && maps.Equal(a.Progress, b.Progress)
}

// observeProgress renews the table of followers on a leader.
func (l *loop) observeProgress() {
	if l.soft.RaftState != raft.StateLeader {
		l.progress = nil
		return
	}
	l.progress = l.progressTable()
}

func (l *loop) progressTable() map[uint64]Progress {
	table := make(map[uint64]Progress)
	l.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		table[id] = Progress{
			Match:        p.Match,
			Next:         p.Next,
			Learner:      p.IsLearner,
			RecentActive: p.RecentActive,
			Snapshot:     p.State == tracker.StateSnapshot,
		}
	})
	return table
}

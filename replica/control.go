package replica

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Step takes in a message from another member. The message belongs to the replica from then on.
func (r *Replica) Step(m *raftpb.Message) error {
	switch {
	case raft.IsLocalMsg(m.GetType()) || raft.IsLocalMsgTarget(m.GetFrom()):
		return fmt.Errorf("message of type %v from %x: such messages do not travel", m.GetType(), m.GetFrom())
	case m.GetType() == raftpb.MsgSnap && r.cfg.Snapshots == nil:
		return errors.New("this replica takes no snapshots")
	}
	if err := r.end.err(); err != nil {
		return err
	}
	r.inbox.Put(event{message: m})
	return nil
}

// Tick says that a heartbeat interval has passed.
func (r *Replica) Tick() {
	r.ticks.Add(1)
	r.poke()
}

// Hurry lets ticks pass at once while no leader is known, so that an election comes that much earlier.
func (r *Replica) Hurry(ticks int) {
	r.inbox.Put(event{call: func() {
		for ; ticks > 0 && r.loop.node.BasicStatus().Lead == raft.None; ticks-- {
			r.loop.node.Tick()
		}
	}})
}

// do runs f in the loop and waits until it has run.
func (r *Replica) do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	r.inbox.Put(event{call: func() { f(); close(ran) }})
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.end.done:
		return ErrStopped
	}
}

// TransferLeader hands the leadership to another member and returns when that member leads.
func (r *Replica) TransferLeader(ctx context.Context, to uint64) error {
	var refused error
	if err := r.do(ctx, func() { refused = r.loop.transfer(to) }); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	for {
		changed := r.LeadershipChange()
		if r.status.Load().Leader == to {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ErrTransferTimeout
		case <-r.end.done:
			return ErrStopped
		}
	}
}

func (l *loop) transfer(to uint64) error {
	switch {
	case l.soft.RaftState != raft.StateLeader:
		return ErrNotLeader
	case !l.voter(to):
		return ErrBadTransferee
	}
	l.node.TransferLeader(to)
	return nil
}

// LeaderGone says that a member which leads, as far as this replica knows, is certainly down: its machine refused the
// connection. The replica forgets it and so is ready to vote for another. Silence is no reason to call this.
func (r *Replica) LeaderGone(id uint64) {
	r.inbox.Put(event{call: func() {
		if r.loop.node.BasicStatus().Lead == id && id != r.cfg.ID {
			r.loop.forgetLeader()
		}
	}})
}

func (l *loop) forgetLeader() {
	if err := l.node.ForgetLeader(); err != nil {
		panic(fmt.Sprintf("replica: raft keeps its leader: %v", err))
	}
}

// Campaign makes the replica try to become leader now if it knows of none and its term is still the one given. Where several
// members notice at once that the leader is gone, each should take the term, let a random time pass, and campaign then: a term
// that has moved on meanwhile is somebody else's election, for which this replica may have voted. Who campaigns on top of that
// may depose the leader it has just helped to elect, and cannot win when that leader's log is longer already.
func (r *Replica) Campaign(term uint64) {
	r.inbox.Put(event{call: func() {
		l := &r.loop
		if now := l.node.BasicStatus(); now.Lead != raft.None || now.GetTerm() != term || !l.voter(l.id) || l.stalled(r.cfg.ElectionTicks) {
			return
		}
		if err := l.node.Campaign(); err != nil {
			r.cfg.Logger.Warn("raft did not campaign", "error", err)
		}
	}})
}

// ReportUnreachable says that what was sent to a member is probably lost.
func (r *Replica) ReportUnreachable(id uint64) {
	r.inbox.Put(event{call: func() { r.loop.node.ReportUnreachable(id) }})
}

// ReportSnapshot says how the sending of a snapshot to a member ended.
func (r *Replica) ReportSnapshot(id uint64, arrived bool) {
	status := raft.SnapshotFailure
	if arrived {
		status = raft.SnapshotFinish
	}
	r.inbox.Put(event{call: func() { r.loop.node.ReportSnapshot(id, status) }})
}

// Restoring takes in what was stepped before the call, and tells the index of the snapshot that is being put in place; 0
// for none. One that was stepped and is not being put in place never will be.
func (r *Replica) Restoring(ctx context.Context) (uint64, error) {
	var index uint64
	err := r.do(ctx, func() {
		r.handOut()
		if s := r.loop.restoring; s != nil {
			index = s.Snapshot.GetIndex()
		}
	})
	return index, err
}

// Checkpoint records in the log that the state up to a position is durable in the store, with a hard state that has it
// committed, and returns when the record is durable. The log may then be released up to that index; see Compact.
func (r *Replica) Checkpoint(ctx context.Context, m *raftpb.SnapshotMetadata) error {
	durable := make(chan struct{})
	r.inbox.Put(event{call: func() {
		hs := r.loop.hard
		if m.GetIndex()+1 < r.loop.window.first {
			close(durable) // a snapshot has put the log's beginning further already
			return
		}
		if m.GetIndex() > hs.GetCommit() {
			panic(fmt.Sprintf("replica: checkpoint at %d, committed is %d", m.GetIndex(), hs.GetCommit()))
		}
		r.loop.commitLag, r.loop.synced = nil, hs
		r.enqueue(&save{Save: Save{Snapshot: m, HardState: hs}, sync: true, done: func() { close(durable) }})
	}})
	select {
	case <-durable:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.end.done:
		return ErrStopped
	}
}

// Compact says that the log on disk begins behind index now: followers that need more get a snapshot. index must be applied.
func (r *Replica) Compact(index uint64) {
	r.inbox.Put(event{call: func() {
		r.loop.released = max(r.loop.released, index)
		r.loop.noteReleased()
	}})
}

// noteReleased tells the window how much of the log on disk is gone. What the machine has applied, and made durable, and the loop
// has not heard of yet stays in the window until it does: raft still looks at it.
func (l *loop) noteReleased() { l.window.compact(min(l.released, l.window.applied) + 1) }

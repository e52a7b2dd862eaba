package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"holdfast/util/queue"
)

// save is one step of the log with what is to happen when it is done.
type save struct {
	Save
	sync      bool              // durable before responses go out
	responses []*raftpb.Message // strictly in the order of the saves
	snapshot  *raftpb.Snapshot  // to be put in place around the save; nil for none
	done      func()            // called in the loop; nil for none
}

func (s *save) empty() bool { return s.Snapshot == nil && s.HardState == nil && len(s.Entries) == 0 }

// writer is what the caller of WriteLog owns.
type writer struct {
	wake  chan struct{}
	work  *queue.Mailbox[*save]
	saves []Save // reused
	// preparer is the log if it is one, else nil.
	preparer Preparer
}

func newWriter(log Log) writer {
	wake := make(chan struct{}, 1)
	preparer, _ := log.(Preparer)
	return writer{wake: wake, work: queue.NewMailbox[*save](wake), preparer: preparer}
}

// save turns raft's order to the log into a save.
func (r *Replica) save(m *raftpb.Message) {
	l := &r.loop
	s := &save{Save: Save{Entries: m.GetEntries()}, responses: m.GetResponses()}
	if m.Term != nil {
		s.HardState = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	}
	if !raft.IsEmptySnap(m.GetSnapshot()) {
		s.snapshot = m.GetSnapshot()
		s.Snapshot = s.snapshot.GetMetadata()
		l.window.restart(s.Snapshot)
		l.config = l.window.conf
	}
	l.window.append(s.Entries)
	l.settleHardState(s)
	if !s.empty() || len(s.responses) > 0 {
		r.enqueue(s)
	}
}

// settleHardState decides whether s must be synced. A commit index alone need not even be written: it can be found again,
// and a write of its own would only delay the next one. It stays behind until something goes to the disk anyway. Responses
// of s then wait for the saves before it and for nothing else.
func (l *loop) settleHardState(s *save) {
	if s.HardState == nil {
		s.HardState = l.takeCommitLag()
	}
	promised := s.HardState != nil && (s.HardState.GetTerm() != l.synced.GetTerm() || s.HardState.GetVote() != l.synced.GetVote())
	s.sync = promised || len(s.Entries) > 0 || s.Snapshot != nil
	if !s.sync {
		l.commitLag, s.HardState = s.HardState, nil
		return
	}
	l.commitLag = nil
	if s.HardState != nil {
		l.synced = s.HardState
	}
}

func (l *loop) takeCommitLag() *raftpb.HardState {
	hs := l.commitLag
	l.commitLag = nil
	return hs
}

// enqueue hands s to the writer. Behind a snapshot it waits: its entries follow the snapshot's.
func (r *Replica) enqueue(s *save) {
	l := &r.loop
	switch {
	case l.restoring != nil:
		l.heldSaves = append(l.heldSaves, s)
	case s.snapshot != nil:
		l.restoring = s
		r.assign([]*task{{kind: prepareSnapshot, snapshot: s.snapshot}})
	case s.empty() && l.writing == 0:
		r.finish(s) // nothing to write and nothing to wait for
	default:
		r.write(s)
	}
}

func (r *Replica) write(s *save) {
	r.loop.writing++
	if s.sync {
		r.loop.unsynced++
	}
	r.writer.work.Put(s)
}

// writeCommitLag gives the log the commit index that nothing took along for a whole tick, so that a log at rest is right.
func (r *Replica) writeCommitLag() {
	if hs := r.loop.takeCommitLag(); hs != nil {
		r.enqueue(&save{Save: Save{HardState: hs}})
	}
}

// saveCommit has the log keep that the entry at index is committed, a change of the configuration. Of other entries that can be
// found again, by asking the others. Who has forgotten that it was the removal of a member may have nobody but that member to ask.
func (r *Replica) saveCommit(index uint64) {
	l := &r.loop
	if l.synced.GetCommit() >= index {
		return
	}
	l.commitLag, l.synced = nil, l.hard
	r.enqueue(&save{Save: Save{HardState: l.hard}, sync: true})
}

// WriteLog makes everything that waits for the log durable: one write, one sync. It waits for the disk.
// Called by one goroutine: Run's, or a simulator's.
func (r *Replica) WriteLog() error {
	w := &r.writer
	saves := w.work.Take(nil) // travels on to the loop, which is done with it when the next one is due
	if len(saves) == 0 {
		return nil
	}
	w.saves = w.saves[:0]
	sync := false
	for _, s := range saves {
		if !s.empty() {
			w.saves = append(w.saves, s.Save)
			sync = sync || s.sync
		}
	}
	if len(w.saves) > 0 {
		if err := r.cfg.Log.Append(w.saves, sync); err != nil {
			return fmt.Errorf("append to the raft log: %w", err)
		}
		clear(w.saves)
	}
	r.inbox.Put(event{written: saves})
	if w.preparer != nil {
		if err := w.preparer.Prepare(); err != nil {
			return fmt.Errorf("prepare the raft log for what comes next: %w", err)
		}
	}
	return nil
}

// written takes in what the writer has done.
func (r *Replica) written(saves []*save) {
	for _, s := range saves {
		r.loop.writing--
		r.loop.stalls.saves++
		if s.sync {
			r.loop.unsynced--
		}
		if s.snapshot != nil {
			r.give(&task{kind: commitSnapshot, snapshot: s.snapshot})
			continue // finished when the machine has it in force
		}
		r.finish(s)
	}
}

// finish lets out what waited for s.
func (r *Replica) finish(s *save) {
	r.deliver(s.responses)
	if s.done != nil {
		s.done()
	}
}

// snapshotPrepared has the log record the snapshot that the machine keeps ready.
func (r *Replica) snapshotPrepared() { r.write(r.loop.restoring) }

// snapshotInForce ends the replacement: raft goes on behind the snapshot.
func (r *Replica) snapshotInForce() {
	l := &r.loop
	s, held := l.restoring, l.heldSaves
	l.restoring, l.heldSaves = nil, nil
	l.appliedTerm = s.Snapshot.GetTerm()
	r.finish(s)
	for _, h := range held {
		r.enqueue(h)
	}
}

package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"holdfast/util/queue"
)

// applier is what the caller of ApplyCommitted owns.
type applier struct {
	wake  chan struct{}
	work  *queue.Mailbox[*task]
	spare []*task
	run   []*raftpb.Entry // reused
}

func newApplier() applier {
	wake := make(chan struct{}, 1)
	return applier{wake: wake, work: queue.NewMailbox[*task](wake)}
}

// task is one step of the applier.
type task struct {
	kind     taskKind
	entries  []*raftpb.Entry // one for a configuration change
	change   *raftpb.ConfChange
	state    *raftpb.ConfState // that results from change
	refused  error             // why change does not take place; nil when it does
	snapshot *raftpb.Snapshot
}

type taskKind uint8

// A configuration change is decided by the machine, made by raft in the loop, and then carried out by the machine.
// A snapshot is prepared by the machine, recorded by the log, and then put in force by the machine.
const (
	applyEntries taskKind = iota
	checkChange
	applyChange
	prepareSnapshot
	commitSnapshot
)

// apply turns raft's order to the state machine into tasks.
func (r *Replica) apply(m *raftpb.Message) {
	r.assign(splitTasks(m.GetEntries()))
}

// splitTasks cuts entries so that every configuration change stands alone.
func splitTasks(entries []*raftpb.Entry) (tasks []*task) {
	from := 0
	for i, e := range entries {
		if e.GetType() == raftpb.EntryNormal {
			continue
		}
		if i > from {
			tasks = append(tasks, &task{kind: applyEntries, entries: entries[from:i]})
		}
		tasks = append(tasks, &task{kind: checkChange, entries: entries[i : i+1]})
		from = i + 1
	}
	if from < len(entries) {
		tasks = append(tasks, &task{kind: applyEntries, entries: entries[from:]})
	}
	return tasks
}

// assign gives tasks to the applier, up to the first configuration change; the rest waits until that one is through.
func (r *Replica) assign(tasks []*task) {
	l := &r.loop
	for i, t := range tasks {
		if l.changing {
			l.heldTasks = append(l.heldTasks, tasks[i:]...)
			return
		}
		l.changing = t.kind == checkChange
		r.give(t)
	}
}

// give hands t to the applier.
func (r *Replica) give(t *task) {
	r.loop.applying++
	r.applier.work.Put(t)
}

// taskDone takes in what the applier has done.
func (r *Replica) taskDone(t *task) {
	l := &r.loop
	l.applying--
	switch t.kind {
	case checkChange:
		r.makeChange(t)
		return
	case prepareSnapshot:
		r.snapshotPrepared()
		return
	case commitSnapshot:
		r.snapshotInForce()
		return
	}
	l.progressTo(t)
	r.step(appliedMessage(r.cfg.ID, t.entries))
	l.noteReleased()
	l.trimWindow(r.cfg.Limits)
	if t.kind == applyChange {
		l.changes.term = 0
		if r.cfg.ChangeSettled != nil {
			r.cfg.ChangeSettled(t.change, t.refused)
		}
		held := l.heldTasks
		l.changing, l.heldTasks = false, nil
		r.assign(held)
	}
}

// trimWindow forgets entries that nobody is likely to be sent: all that are applied where there is nobody else.
func (l *loop) trimWindow(limits Limits) {
	if l.alone() {
		l.window.trim(0, 0)
		return
	}
	l.window.trim(limits.KeptEntries, limits.KeptBytes)
}

// progressTo takes note of what is applied. What a snapshot on its way has overtaken is no news.
func (l *loop) progressTo(t *task) {
	last := t.entries[len(t.entries)-1]
	l.dropped = false
	if last.GetIndex() <= l.window.applied {
		return
	}
	l.window.applied, l.appliedTerm = last.GetIndex(), last.GetTerm()
	if t.kind == applyChange {
		l.window.conf = t.state
	}
}

// appliedMessage tells raft what is applied. raft would take one answer per order, but an order may hold several tasks, and
// raft must not be behind the window, which forgets what is applied.
func appliedMessage(id uint64, entries []*raftpb.Entry) *raftpb.Message {
	return &raftpb.Message{
		Type:    raftpb.MsgStorageApplyResp.Enum(),
		To:      new(id),
		From:    new(raft.LocalApplyThread),
		Entries: entries,
	}
}

// makeChange has raft switch to the configuration the machine has agreed to, and sends the change back to the machine. A
// refused one never reaches raft.
func (r *Replica) makeChange(t *task) {
	l := &r.loop
	if t.refused == nil {
		l.config = l.node.ApplyConfChange(t.change)
		r.saveCommit(t.entries[0].GetIndex())
	}
	t.kind, t.state = applyChange, l.config
	r.give(t)
}

// ApplyCommitted runs everything that waits for the machine. Called by one goroutine: Run's, or a simulator's.
func (r *Replica) ApplyCommitted() error {
	a := &r.applier
	a.spare = a.work.Take(a.spare)
	for tasks := a.spare; len(tasks) > 0; {
		n, err := r.applySome(tasks)
		if err != nil {
			return err
		}
		for _, t := range tasks[:n] {
			r.inbox.Put(event{applied: t})
		}
		tasks = tasks[n:]
	}
	return nil
}

// applySome does one or more of tasks and says how many.
func (r *Replica) applySome(tasks []*task) (int, error) {
	switch t := tasks[0]; t.kind {
	case applyEntries:
		return r.applyRuns(tasks)
	case checkChange:
		return 1, r.checkChange(t)
	case applyChange:
		if err := r.cfg.Machine.ApplyConfChange(t.entries[0], t.change, t.state, t.refused); err != nil {
			return 0, fmt.Errorf("apply the configuration change in entry %d: %w", t.entries[0].GetIndex(), err)
		}
		r.applied.advance(t.entries[0].GetIndex())
		return 1, nil
	case prepareSnapshot:
		if err := r.cfg.Snapshots.Prepare(t.snapshot); err != nil {
			return 0, fmt.Errorf("take in the snapshot at %d: %w", t.snapshot.GetMetadata().GetIndex(), err)
		}
		return 1, nil
	default:
		if err := r.cfg.Snapshots.Commit(t.snapshot); err != nil {
			return 0, fmt.Errorf("put the snapshot at %d in force: %w", t.snapshot.GetMetadata().GetIndex(), err)
		}
		r.applied.advance(t.snapshot.GetMetadata().GetIndex())
		return 1, nil
	}
}

// applyRuns gives the machine the normal entries at the head of tasks, as few runs as their bounds allow.
func (r *Replica) applyRuns(tasks []*task) (int, error) {
	a := &r.applier
	a.run = a.run[:0]
	n := 0
	for n < len(tasks) && tasks[n].kind == applyEntries && (n == 0 || len(a.run) < runEntries) {
		a.run = append(a.run, tasks[n].entries...)
		n++
	}
	defer clear(a.run)
	for rest := a.run; len(rest) > 0; {
		run := limit(rest[:min(len(rest), runEntries)], runBytes)
		last := run[len(run)-1].GetIndex()
		if err := r.cfg.Machine.Apply(run); err != nil {
			return 0, fmt.Errorf("apply entries %d to %d: %w", run[0].GetIndex(), last, err)
		}
		r.applied.advance(last)
		rest = rest[len(run):]
	}
	return n, nil
}

// checkChange asks the machine. The answer travels with the task.
func (r *Replica) checkChange(t *task) error {
	e := t.entries[0]
	if e.GetType() != raftpb.EntryConfChange {
		return fmt.Errorf("entry %d is of type %v: neither etcd nor this program writes such entries", e.GetIndex(), e.GetType())
	}
	change, err := decodeChange(e)
	if err != nil {
		return err
	}
	t.change = change
	t.refused = r.cfg.Machine.CheckConfChange(e, change)
	return nil
}

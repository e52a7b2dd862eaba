package replica

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// loop is what the caller of Advance owns: raft and everything that must change in step with it.
type loop struct {
	id     uint64
	node   *raft.RawNode
	window *window

	// What raft said last, when its news were taken; it may have moved since.
	soft         raft.SoftState
	hard         *raftpb.HardState // from raft, all of it
	term, commit uint64
	appliedTerm  uint64
	config       *raftpb.ConfState // in force in raft; the window's follows when the machine has stored it
	campaigned   bool              // as the only voter, once
	handover     handover
	stalls       stalls
	progress     map[uint64]Progress

	// Proposals on their way into raft.
	batch        []proposal
	slab         []raftpb.Entry
	slabPointers []*raftpb.Entry
	changes      changes
	dropped      bool // raft refused the batch; cleared by anything that may have changed its mind
	takeReady    bool // raft has news: collect them before giving it more

	// The log writer's work under way.
	unsynced  int               // saves that need a sync and have not come back
	owed      []*raftpb.Message // responses to send at the end of the step
	writing   int               // saves of any kind that have not come back
	synced    *raftpb.HardState // the last hard state with a sync under way or done
	commitLag *raftpb.HardState // has a newer commit index than the log, and nothing else new
	released  uint64            // the log on disk begins behind it
	restoring *save             // a snapshot being put in place: the log and the machine take turns
	heldSaves []*save           // behind it

	// The applier's work under way.
	applying   int     // tasks that have not come back
	changing   bool    // a configuration change is being decided: what follows waits, for it may depend on it
	heldTasks  []*task // behind it
	spareInbox []event // reused
}

// event is what arrives in the loop. Exactly one field is set.
type event struct {
	message *raftpb.Message // from another member
	written []*save         // durable now, in the order they were handed out
	applied *task           // the machine is through with it
	call    func()          // anything rare
}

// start builds raft from what was recovered.
func (l *loop) start(cfg Config, w *window) (err error) {
	defer func() {
		if p := recover(); p != nil { // raft panics on a configuration it does not like
			err = fmt.Errorf("start raft: %v", p)
		}
	}()
	l.id, l.window, l.config = cfg.ID, w, w.conf
	l.hard, l.synced = w.hard, w.hard
	l.term, l.commit = w.hard.GetTerm(), w.hard.GetCommit()
	l.appliedTerm = w.terms.at(w.applied)
	l.node, err = raft.NewRawNode(&raft.Config{
		ID:                        cfg.ID,
		ElectionTick:              cfg.ElectionTicks,
		HeartbeatTick:             1,
		Storage:                   w,
		Applied:                   w.applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             messageBytes,
		MaxCommittedSizePerReady:  cfg.Limits.ApplyingBytes,
		MaxUncommittedEntriesSize: cfg.Limits.UncommittedBytes,
		MaxInflightMsgs:           inflightMessages,
		MaxInflightBytes:          cfg.Limits.InflightBytes,
		CheckQuorum:               true,
		PreVote:                   cfg.PreVote,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{cfg.Logger},
	})
	return err
}

func (l *loop) leadership() Leadership {
	role := roleOf(l.soft.RaftState)
	return Leadership{
		Term:    l.term,
		Leader:  l.soft.Lead,
		Role:    role,
		Settled: role == Leader && l.appliedTerm == l.term,
	}
}

// sole says whether this member has the only vote.
func (l *loop) sole() bool {
	c := l.config
	return len(c.GetVoters()) == 1 && c.GetVoters()[0] == l.id && len(c.GetVotersOutgoing()) == 0
}

// alone says whether this is the only member.
func (l *loop) alone() bool {
	return l.sole() && len(l.config.GetLearners())+len(l.config.GetLearnersNext()) == 0
}

func (l *loop) voter(id uint64) bool { return slices.Contains(l.config.GetVoters(), id) }

// Advance runs raft on everything that has arrived, and hands out what comes of it. It waits for nothing.
// Called by one goroutine: Run's, or a simulator's.
func (r *Replica) Advance() {
	l := &r.loop
	l.spareInbox = r.inbox.Take(l.spareInbox)
	for i := range l.spareInbox {
		r.receive(&l.spareInbox[i])
	}
	l.campaignAlone()
	r.handOut()
	for n := r.ticks.Swap(0); n > 0; n-- {
		r.tick()
		r.handOut()
	}
	for {
		l.takeReady = false
		r.reads.send(l)
		l.propose(r.proposals)
		if !l.takeReady {
			break
		}
		r.handOut()
	}
	r.sendOwed()
	if s, ok := l.window.ahead.next(); ok {
		r.reader.work.Put(s)
	}
}

// tick lets one heartbeat interval pass.
func (r *Replica) tick() {
	l := &r.loop
	r.ticked.Add(1)
	l.stalls.tick(l, r.applied.index())
	l.observeProgress()
	l.handover.tick(l, r.cfg.ElectionTicks)
	if l.soft.RaftState == raft.StateLeader || !l.stalled(r.cfg.ElectionTicks) {
		l.node.Tick() // a stalled follower does not become a leader that cannot work
	}
	l.dropped = false
	r.reads.tick(l)
	if !l.mayPropose() {
		r.proposals.prune()
	}
	r.writeCommitLag()
}

// receive takes in one event.
func (r *Replica) receive(e *event) {
	switch {
	case e.message != nil && r.loop.handover.mute:
	case e.message != nil:
		r.step(e.message)
	case e.written != nil:
		r.written(e.written)
	case e.applied != nil:
		r.taskDone(e.applied)
	default:
		e.call()
	}
}

// step gives raft a message. What raft does not want is lost, as on a network.
func (r *Replica) step(m *raftpb.Message) {
	l := &r.loop
	switch {
	case m.GetType() == raftpb.MsgReadIndex && l.aloneInDoubt():
		return // raft would answer wrongly; the asker repeats
	case m.GetType() == raftpb.MsgSnap && l.changing:
		return // raft would make the change on top of the snapshot's configuration; the leader repeats
	case m.GetType() == raftpb.MsgProp && l.changes.takeFrom(m):
		return
	}
	if err := l.node.Step(m); err != nil && !errors.Is(err, raft.ErrProposalDropped) && !errors.Is(err, raft.ErrStepPeerNotFound) {
		r.cfg.Logger.Warn("raft refused a message", "type", m.GetType().String(), "from", m.GetFrom(), "error", err)
	}
}

// campaignAlone makes the only voter leader without waiting for an election timeout: there is nobody to wait for.
func (l *loop) campaignAlone() {
	if l.campaigned || !l.sole() || l.soft.Lead != raft.None || l.window.applied < l.commit {
		return
	}
	l.campaigned = true
	if err := l.node.Campaign(); err != nil {
		panic(fmt.Sprintf("replica: the only voter cannot campaign: %v", err))
	}
}

// handOut takes raft's news until there are none, and gives each its way.
func (r *Replica) handOut() {
	for r.loop.node.HasReady() {
		ready := r.loop.node.Ready()
		r.loop.observe(&ready)
		r.publish()
		r.reads.answer(ready.ReadStates)
		r.route(ready.Messages)
	}
	r.publish()
}

func (l *loop) observe(ready *raft.Ready) {
	if ready.SoftState != nil {
		l.soft = *ready.SoftState
		l.dropped = false
		l.observeProgress()
	}
	if !raft.IsEmptyHardState(ready.HardState) {
		l.hard, l.term, l.commit = ready.HardState, ready.HardState.GetTerm(), ready.HardState.GetCommit()
	}
}

// route sends what is for others, and gives the local work to the log writer and the applier.
func (r *Replica) route(messages []*raftpb.Message) {
	out := messages[:0]
	for _, m := range messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			r.save(m)
		case raft.LocalApplyThread:
			r.apply(m)
		default:
			out = append(out, m)
		}
	}
	r.send(out)
}

func (r *Replica) send(messages []*raftpb.Message) {
	if len(messages) > 0 && r.cfg.Transport != nil && !r.loop.handover.mute {
		r.cfg.Transport.Send(messages)
	}
}

// deliver gives raft what is for itself and keeps the rest, in order, for sendOwed.
func (r *Replica) deliver(responses []*raftpb.Message) {
	for _, m := range responses {
		if m.GetTo() == r.cfg.ID {
			r.step(m)
		} else {
			r.loop.owed = append(r.loop.owed, m)
		}
	}
}

// sendOwed sends the responses that saves have let out. Of several acknowledgements to one leader the highest says all.
func (r *Replica) sendOwed() {
	l := &r.loop
	r.send(mergeAcks(l.owed))
	l.owed = nil
}

// mergeAcks drops acknowledgements of appends that the highest one in messages covers.
func mergeAcks(messages []*raftpb.Message) []*raftpb.Message {
	var highest *raftpb.Message
	for _, m := range messages {
		if isAck(m) && (highest == nil || m.GetTerm() > highest.GetTerm() || m.GetTerm() == highest.GetTerm() && m.GetIndex() >= highest.GetIndex()) {
			highest = m
		}
	}
	return slices.DeleteFunc(messages, func(m *raftpb.Message) bool {
		return isAck(m) && m != highest && m.GetTerm() == highest.GetTerm() && m.GetTo() == highest.GetTo()
	})
}

func isAck(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgAppResp && !m.GetReject() }

// readBack takes in old entries and has followers asked for their state, which makes raft go on sending to them.
func (l *loop) readBack(entries []*raftpb.Entry) {
	l.window.ahead.add(entries, l.window.first)
	if l.soft.RaftState != raft.StateLeader || len(entries) == 0 {
		return
	}
	// From the append thread, because raft takes local messages from nobody else.
	beat := &raftpb.Message{Type: raftpb.MsgBeat.Enum(), From: new(raft.LocalAppendThread)}
	if err := l.node.Step(beat); err != nil {
		panic(fmt.Sprintf("replica: raft refused a heartbeat: %v", err))
	}
}

func decodeChange(e *raftpb.Entry) (*raftpb.ConfChange, error) {
	change := new(raftpb.ConfChange)
	if err := proto.Unmarshal(e.GetData(), change); err != nil {
		return nil, fmt.Errorf("decode the configuration change in entry %d: %w", e.GetIndex(), err)
	}
	return change, nil
}

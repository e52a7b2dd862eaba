package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/util/queue"
)

// proposal is an entry to be.
type proposal struct {
	ctx  context.Context // ended: the caller has gone, and the entry need not come to be
	data []byte
	kind *raftpb.EntryType // shared: raft never writes through it
	term uint64            // in which this member must lead, or the entry must not come to be; 0: whoever leads
}

// proposals is the bounded queue before the loop.
type proposals struct {
	wake       chan<- struct{}
	entriesMax int
	bytesMax   uint64

	mu    sync.Mutex // guards the fields below
	items []proposal // [head:] wait
	head  int
	bytes uint64
}

func newProposals(wake chan<- struct{}, limits Limits) *proposals {
	return &proposals{wake: wake, entriesMax: limits.QueuedEntries, bytesMax: limits.QueuedBytes}
}

// add puts p at the end, or says that the queue is full. A proposal larger than the whole queue passes when it is alone.
func (q *proposals) add(p proposal) error {
	q.mu.Lock()
	waiting := len(q.items) - q.head
	size := q.bytes + uint64(len(p.data))
	if waiting >= q.entriesMax || waiting > 0 && size > q.bytesMax {
		q.mu.Unlock()
		return ErrTooManyRequests
	}
	q.items = append(q.items, p)
	q.bytes = size
	q.mu.Unlock()
	if waiting == 0 {
		queue.Wake(q.wake)
	}
	return nil
}

// waiting returns how many proposals wait, and their bytes.
func (q *proposals) waiting() (entries int, bytes uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) - q.head, q.bytes
}

// take moves proposals whose callers still wait to the end of batch, up to the bounds of one proposal to raft.
func (q *proposals) take(batch []proposal) []proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	var size uint64
	for q.head < len(q.items) && len(batch) < proposalEntries {
		p := &q.items[q.head]
		if len(batch) > 0 && size+uint64(len(p.data)) > proposalBytes {
			break
		}
		q.bytes -= uint64(len(p.data))
		if p.ctx.Err() == nil {
			size += uint64(len(p.data))
			batch = append(batch, *p)
		}
		*p = proposal{}
		q.head++
	}
	if q.head > len(q.items)/2 { // a queue that never runs empty must not grow with what has left it
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return batch
}

// prune drops proposals whose callers have gone, so that a queue nobody empties does not refuse those who would wait.
func (q *proposals) prune() {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.items[:0]
	q.bytes = 0
	for _, p := range q.items[q.head:] {
		if p.ctx.Err() == nil {
			kept = append(kept, p)
			q.bytes += uint64(len(p.data))
		}
	}
	clear(q.items[len(kept):])
	q.items, q.head = kept, 0
}

// Propose asks for an entry with data. It returns when the proposal is queued; whether the entry comes to be shows only
// when the machine applies it. data belongs to the replica from then on. When ctx ends before a leader has taken the
// proposal, it is dropped. A proposal can be lost on its way to another member's leader, as in etcd.
func (r *Replica) Propose(ctx context.Context, data []byte) error {
	return r.propose(proposal{ctx: ctx, data: data, kind: normalEntry})
}

// ProposeInTerm is Propose for what only the leader of a term may ask for: unless this member leads in that term when the
// proposal's turn comes, it is dropped without a word, and it is never forwarded. A deposed leader that has not heard of
// its successor cannot do harm with it: what it still appends is not committed.
func (r *Replica) ProposeInTerm(ctx context.Context, term uint64, data []byte) error {
	return r.propose(proposal{ctx: ctx, data: data, kind: normalEntry, term: term})
}

// ProposeConfChange asks for a configuration change, as Propose does for data. Where a replica leads, a change waits until the
// one before it is settled; see changes. An etcd that leads lets it come to nothing instead.
func (r *Replica) ProposeConfChange(ctx context.Context, change *raftpb.ConfChange) error {
	data, err := proto.Marshal(change)
	if err != nil {
		return fmt.Errorf("encode the configuration change: %w", err)
	}
	return r.propose(proposal{ctx: ctx, data: data, kind: changeEntry})
}

func (r *Replica) propose(p proposal) error {
	if err := r.end.err(); err != nil {
		return err
	}
	if s := r.status.Load(); s.Commit > r.applied.index()+r.cfg.Limits.ApplyGap {
		return ErrTooManyRequests
	}
	return r.proposals.add(p)
}

// propose turns waiting proposals into one proposal to raft, if it would take one.
func (l *loop) propose(q *proposals) {
	for l.mayPropose() {
		if len(l.batch) == 0 {
			l.batch = q.take(l.batch)
			if len(l.batch) == 0 && (len(l.changes.waiting) == 0 || !l.changeMayGo()) {
				return
			}
		}
		l.batch = slices.DeleteFunc(l.batch, l.outdated)
		l.orderChanges()
		if len(l.batch) == 0 {
			continue
		}
		err := l.node.Step(l.proposalMessage())
		if errors.Is(err, raft.ErrProposalDropped) {
			l.dropped = true // the batch waits until something has changed
			return
		}
		if err != nil {
			panic(fmt.Sprintf("replica: raft refused a proposal: %v", err))
		}
		l.noteChange()
		clear(l.batch)
		l.batch = l.batch[:0]
		l.takeReady = true
		if l.soft.RaftState == raft.StateLeader {
			return // what follows joins the next append, see unsyncedSaves
		}
	}
}

// outdated says that the caller has gone, or that a proposal was meant for a term in which this member does not lead any more.
func (l *loop) outdated(p proposal) bool {
	return p.ctx.Err() != nil || p.term != 0 && (l.soft.RaftState != raft.StateLeader || p.term != l.term)
}

func (l *loop) mayPropose() bool {
	held := l.soft.RaftState == raft.StateLeader && l.unsynced >= unsyncedSaves
	return l.soft.Lead != raft.None && !l.dropped && !held
}

// proposalMessage puts the batch into the form raft takes. A leader's raft copies the entries, so their memory serves
// again; a follower's sends them as they are.
func (l *loop) proposalMessage() *raftpb.Message {
	n := len(l.batch)
	if l.soft.RaftState != raft.StateLeader || len(l.slab) < n {
		l.slab = make([]raftpb.Entry, max(n, min(2*n, proposalEntries)))
		l.slabPointers = make([]*raftpb.Entry, len(l.slab))
	}
	entries := l.slabPointers[:n:n]
	for i, p := range l.batch {
		e := &l.slab[i]
		e.Type, e.Data = p.kind, p.data
		entries[i] = e
	}
	m := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(l.id), Entries: entries}
	if l.soft.RaftState != raft.StateLeader {
		l.slab, l.slabPointers = nil, nil
	}
	return m
}

var (
	normalEntry = raftpb.EntryNormal.Enum()
	changeEntry = raftpb.EntryConfChange.Enum()
)

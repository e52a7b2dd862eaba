package replica

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"

	"holdfast/util/queue"
)

// Read is one question for the read index, shared by everyone who came before it was sent.
type Read struct {
	done  chan struct{}
	index uint64 // this and err are set before done is closed
	err   error
}

// Done is closed when the answer is known.
func (q *Read) Done() <-chan struct{} { return q.done }

// Index returns the answer, once Done is closed: what was committed before the question was sent is at or below it.
func (q *Read) Index() (uint64, error) { return q.index, q.err }

func (q *Read) finish(index uint64, err error) {
	q.index, q.err = index, err
	close(q.done)
}

// answered is a question that needs no sending.
func answered(index uint64, err error) *Read {
	q := &Read{done: make(chan struct{})}
	q.finish(index, err)
	return q
}

// reads lets many readers share a question: one is with the leader, whoever comes meanwhile joins the next.
type reads struct {
	wake                     chan<- struct{}
	retryTicks, timeoutTicks int

	failed, slow atomic.Uint64 // see Stats

	mu      sync.Mutex // guards the fields below
	next    *Read      // readers may still join; nil when there are none
	stopped bool

	// Owned by the loop.
	sent        *Read  // with the leader; nil when none is
	first, last uint64 // numbers under which sent was asked, all of them valid
	sentAge     int    // ticks since sent was first asked
	sentSilence int    // ticks since it was last asked
	held        *Read  // could not be sent; who comes now joins the next, so that nobody is given up early
	heldAge     int    // ticks it has been held
}

func newReads(wake chan<- struct{}, cfg Config) *reads {
	return &reads{
		wake:         wake,
		retryTicks:   max(cfg.ReadRetryTicks, 1),
		timeoutTicks: max(cfg.ReadTimeoutTicks, 1),
		last:         cfg.ReadSeed,
	}
}

// ReadIndex returns an index at or above everything that was committed when it was called, confirmed by a quorum. A read
// that waits until the index is applied is linearizable.
func (r *Replica) ReadIndex(ctx context.Context) (uint64, error) {
	if index, ok := r.ownReadIndex(); ok {
		return index, nil
	}
	q := r.reads.join()
	select {
	case <-q.done:
		return q.index, q.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// AskReadIndex is ReadIndex for callers that do not want to wait in place.
func (r *Replica) AskReadIndex() *Read {
	if index, ok := r.ownReadIndex(); ok {
		return answered(index, nil)
	}
	return r.reads.join()
}

// ownReadIndex answers for the only voter, which needs nobody's word: another leader needs this member's vote, and before
// that vote leaves, the status says so (see publish). Its commit index is complete once an entry of its own term is
// committed; raft does not check that.
func (r *Replica) ownReadIndex() (uint64, bool) {
	s := r.status.Load()
	return s.Commit, s.Sole && s.Role == Leader && s.Settled && r.end.err() == nil
}

func (r *reads) join() *Read {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return answered(0, ErrStopped)
	}
	if r.next == nil {
		r.next = &Read{done: make(chan struct{})}
		queue.Wake(r.wake)
	}
	return r.next
}

// leave takes the next question away from joining readers. Called by the loop.
func (r *reads) leave() *Read {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.next
	r.next = nil
	return q
}

// send asks the leader on behalf of everyone waiting, unless a question is out already or nobody could answer.
func (r *reads) send(l *loop) {
	if r.sent != nil || !l.mayAsk() {
		return
	}
	if r.sent, r.held = r.held, nil; r.sent == nil {
		r.sent = r.leave()
	}
	if r.sent == nil {
		return
	}
	r.first, r.sentAge = r.last+1, 0
	r.ask(l)
}

// ask sends the question under a fresh number. etcd's form: eight bytes, big endian, that a leader echoes.
func (r *reads) ask(l *loop) {
	r.last++
	r.sentSilence = 0
	l.node.ReadIndex(binary.BigEndian.AppendUint64(nil, r.last))
	l.takeReady = true
}

// answer takes in what came from the leader.
func (r *reads) answer(states []raft.ReadState) {
	for _, s := range states {
		if r.sent == nil || len(s.RequestCtx) != 8 {
			continue
		}
		if n := binary.BigEndian.Uint64(s.RequestCtx); n < r.first || n > r.last {
			r.slow.Add(1) // an answer to a question given up
			continue
		}
		r.sent.finish(s.Index, nil)
		r.sent = nil
	}
}

// tick asks again and gives up.
func (r *reads) tick(l *loop) {
	r.tickHeld()
	if r.sent == nil {
		return
	}
	r.sentAge++
	r.sentSilence++
	switch {
	case r.sentAge >= r.timeoutTicks:
		r.slow.Add(1)
		r.sent.finish(0, ErrTimeout)
		r.sent = nil
	case r.sentSilence >= r.retryTicks && l.mayAsk():
		r.ask(l)
	}
}

// tickHeld gives up on a question that could not even be sent. One behind a question under way has not begun to wait.
func (r *reads) tickHeld() {
	switch {
	case r.sent != nil:
		return
	case r.held == nil:
		r.held, r.heldAge = r.leave(), 0
	}
	if r.heldAge++; r.held != nil && r.heldAge >= r.timeoutTicks {
		r.slow.Add(1)
		r.held.finish(0, ErrTimeout)
		r.held = nil
	}
}

// leadershipChanged ends the question that is out when another leader, or the same in another term, comes up: the
// one that was asked may never answer.
func (r *reads) leadershipChanged(before, now Leadership) {
	if r.sent == nil || now.Leader == raft.None || before.Leader == now.Leader && before.Term == now.Term {
		return
	}
	r.failed.Add(1)
	r.sent.finish(0, ErrLeaderChanged)
	r.sent = nil
}

// stop ends all questions.
func (r *reads) stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	for _, q := range []*Read{r.sent, r.held, r.leave()} {
		if q != nil {
			q.finish(0, ErrStopped)
		}
	}
	r.sent, r.held = nil, nil
}

// mayAsk says whether a question for the read index would be answered, and answered rightly.
func (l *loop) mayAsk() bool {
	lead := l.leadership()
	return lead.Leader != raft.None && (lead.Role != Leader || lead.Settled && l.voter(l.id))
}

// aloneInDoubt says that raft, leading here, would answer for the read index by itself and perhaps too low. Where there is
// one voter raft takes the leader for it and asks nobody, and it does so before an entry of the term is committed. But the
// commit index of a voter that has just started may be old, and a leader that was removed and has not gone yet is not that
// voter: the real one may have been elected. It asks raft itself, which may have become leader by the event before.
func (l *loop) aloneInDoubt() bool {
	if len(l.config.GetVoters()) != 1 {
		return false
	}
	s := l.node.BasicStatus()
	return s.RaftState == raft.StateLeader && !(l.voter(l.id) && l.appliedTerm == s.GetTerm())
}

package sim

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/replica"
)

// requestTimeout is how long a request may take at a member.
const requestTimeout = 5 * time.Second

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// request is a proposal somebody waits for.
type request struct {
	id     uint64
	done   func(*apply.Result, error) // called once; the error says that nobody knows what became of it
	cancel context.CancelFunc
}

var (
	errUnknown = errors.New("nobody knows what became of it")
	errRefused = errors.New("refused before it was proposed")
)

func (r *request) finish(result *apply.Result, err error) {
	r.cancel()
	r.done(result, err)
}

// forget ends the wait at a member that ends.
func (r *request) forget() { r.finish(nil, errUnknown) }

// propose makes a payload an entry of the log. timeout is how long it may wait for that and for its result.
func (l *life) propose(id uint64, payload []byte, timeout time.Duration, done func(*apply.Result, error)) {
	l.enqueue(whoeverLeads, id, payload, timeout, done)
}

// whoeverLeads is no term.
const whoeverLeads = 0

// enqueue is propose for what must come to be in a term only.
func (l *life) enqueue(term, id uint64, payload []byte, timeout time.Duration, done func(*apply.Result, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &request{id: id, done: done, cancel: cancel}
	l.waiting[id] = r
	if err := l.replica.ProposeInTerm(ctx, term, payload); err != nil {
		delete(l.waiting, id)
		if !errors.Is(err, replica.ErrTooManyRequests) {
			l.w.fail("%s cannot propose: %v", l.member, err)
		}
		r.finish(nil, errRefused)
		return
	}
	if slip := l.w.slips.proposed; slip != nil && term == whoeverLeads {
		slip(ctx, l, payload)
	}
	l.poke(&l.loop)
	l.w.after(timeout, func() {
		if !l.ended && l.waiting[id] == r {
			delete(l.waiting, id)
			r.finish(nil, errUnknown)
		}
	})
}

// answer gives a result to whoever waits for it.
func (l *life) answer(result *apply.Result) {
	r := l.waiting[result.ID]
	if r == nil || l.ended {
		return
	}
	delete(l.waiting, result.ID)
	r.finish(result, nil)
}

// read is somebody who waits until this member has applied what was committed when it asked.
type read struct {
	question *replica.Read // nil once it is answered
	index    uint64
	done     func(error)
}

// errFailed says that a read was not answered; a read that failed has no effect.
var errFailed = errors.New("the read failed")

func (r *read) forget() { r.done(errFailed) }

// whenCommitted calls done when this member has applied what is committed now.
func (l *life) whenCommitted(done func(error)) {
	if slip := l.w.slips.unasked; slip != nil && slip(l) {
		done(nil)
		return
	}
	r := &read{question: l.replica.AskReadIndex(), done: done}
	l.reads = append(l.reads, r)
	l.poke(&l.loop)
	l.checkReads()
	l.w.after(requestTimeout, func() {
		if i := slices.Index(l.reads, r); i >= 0 {
			l.reads = slices.Delete(l.reads, i, i+1)
			r.done(errFailed)
		}
	})
}

// checkReads answers the reads that can be.
func (l *life) checkReads() {
	waiting := l.reads
	l.reads = nil
	for _, r := range waiting {
		if !l.ready(r) {
			l.reads = append(l.reads, r)
		}
	}
}

func (l *life) ready(r *read) bool {
	if r.question != nil {
		select {
		case <-r.question.Done():
		default:
			return false
		}
		index, err := r.question.Index()
		if err != nil {
			r.done(errFailed)
			return true
		}
		r.index, r.question = index, nil
	}
	if l.appliedIndex < r.index {
		return false
	}
	r.done(nil)
	return true
}

// rangeNow reads keys.
func (l *life) rangeNow(q *kv.RangeRequest) (*kv.RangeResult, error) {
	return l.keys.Range(context.Background(), q)
}

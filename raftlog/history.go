package raftlog

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// A TermRun says that the entries from First up to the next run's First have this term.
type TermRun struct {
	First uint64
	Term  uint64
}

// history follows the records of a log in order and says what they leave as the live log. It is the one place where the
// rules between records stand: the reader refuses a log that breaks them, the writer never writes one.
//
// The rules matter beyond raft. A record's checksum does not cover its type, so one flipped bit can turn an empty entry
// into a state and back; such a record is noticed only because terms, votes and commits cannot run that way.
type history struct {
	state HardState
	// base is the entry before the live log, as far as known; its Term is 0 when unknown. The live log is what terms
	// describe, base.Index+1 to last. Invariant: base.Index <= last; terms is empty exactly when they are equal.
	base  raftPoint
	last  uint64
	terms []TermRun
	snaps []SnapshotRecord
	// pending is a snapshot record above the commit index: a received snapshot. It counts, and replaces a log that does
	// not contain it, once the commit index reaches it or the entry after it arrives. A crash may leave it without either;
	// raft then goes on from the old log as if the record were not there.
	pending raftPoint
}

type raftPoint struct{ Index, Term uint64 }

// termJumpMax bounds how far one entry's term may lie above everything before it. Terms count elections; a member id
// taken for a term (a state record whose type was hit) is a 64-bit hash.
const termJumpMax = 1 << 32

// begin sets where the first segment kept says that the log before it ended.
func (h *history) begin(first segment) {
	if first.index > 0 {
		h.base.Index = first.index - 1
	}
	h.last = h.base.Index
}

// copyFrom makes h independent of o, reusing what h had. Records only ever get appended to snaps, so that may be shared.
func (h *history) copyFrom(o *history) {
	terms := append(h.terms[:0], o.terms...)
	*h = *o
	h.terms = terms
}

// term returns the term of a live entry or of the base; 0 when it is not known.
func (h *history) term(index uint64) uint64 {
	if index == h.base.Index {
		return h.base.Term
	}
	if index < h.base.Index || index > h.last {
		return 0
	}
	i := len(h.terms) - 1
	for h.terms[i].First > index {
		i--
	}
	return h.terms[i].Term
}

// entry takes in an entry. reset reports that a pending snapshot replaced the log before it.
func (h *history) entry(e entryFields) (reset bool, err error) {
	switch {
	case e.index == 0 || e.term == 0:
		return false, fmt.Errorf("entry has index %d and term %d, neither may be 0", e.index, e.term)
	case e.typ > raftpb.EntryType_EntryConfChangeV2:
		return false, fmt.Errorf("entry %d has the unknown type %d", e.index, e.typ)
	case e.typ == raftpb.EntryType_EntryConfChange && len(e.data) == 0:
		return false, fmt.Errorf("entry %d is a configuration change without content", e.index)
	}
	if h.pending.Index != 0 && e.index == h.pending.Index+1 {
		reset = h.settle()
	}
	switch {
	case e.index > h.last+1:
		return reset, fmt.Errorf("entry %d follows entry %d, what lies between is missing", e.index, h.last)
	case e.index <= h.state.Commit:
		return reset, fmt.Errorf("entry %d comes again although entries up to %d are committed", e.index, h.state.Commit)
	}
	if e.index <= h.base.Index {
		h.base = raftPoint{Index: e.index - 1}
		h.terms = h.terms[:0]
	}
	before := h.term(e.index - 1)
	if e.term < before {
		return reset, fmt.Errorf("entry %d has term %d, the entry before it has %d", e.index, e.term, before)
	}
	if known := max(before, h.state.Term); e.term-min(known, e.term) > termJumpMax {
		return reset, fmt.Errorf("entry %d has term %d, the log before it is at %d", e.index, e.term, known)
	}
	h.append(e.index, e.term)
	return reset, nil
}

func (h *history) append(index, term uint64) {
	n := len(h.terms)
	for n > 0 && h.terms[n-1].First >= index {
		n--
	}
	h.terms = h.terms[:n]
	if n == 0 || h.terms[n-1].Term != term {
		h.terms = append(h.terms, TermRun{First: index, Term: term})
	}
	h.last = index
}

// hardState takes in a state. reset is as for entry.
func (h *history) hardState(s HardState) (reset bool, err error) {
	was := h.state
	switch {
	case s.Term == 0:
		return false, errors.New("state has term 0")
	case s.Term < was.Term:
		return false, fmt.Errorf("state goes from term %d back to %d", was.Term, s.Term)
	case s.Commit < was.Commit:
		return false, fmt.Errorf("state goes from commit %d back to %d", was.Commit, s.Commit)
	case s.Term == was.Term && was.Vote != 0 && s.Vote != was.Vote:
		return false, fmt.Errorf("vote in term %d goes from %x to %x", s.Term, was.Vote, s.Vote)
	}
	if h.pending.Index != 0 && s.Commit >= h.pending.Index {
		reset = h.settle()
	}
	switch {
	case s.Commit > h.last:
		return reset, fmt.Errorf("state says that %d is committed, the log ends at %d", s.Commit, h.last)
	case s.Term < h.term(h.last):
		return reset, fmt.Errorf("state has term %d, entry %d has %d", s.Term, h.last, h.term(h.last))
	}
	h.state = s
	return reset, nil
}

// snapshot takes in a snapshot record.
func (h *history) snapshot(r SnapshotRecord) error {
	if r.Index > h.state.Commit {
		h.pending = raftPoint{Index: r.Index, Term: r.Term}
	} else if t := h.term(r.Index); t != 0 && t != r.Term {
		return fmt.Errorf("snapshot record %d has term %d, the committed entry has %d", r.Index, r.Term, t)
	}
	h.snaps = append(h.snaps, r)
	return nil
}

// settle makes the pending snapshot count. A log that contains it goes on behind it; any other is replaced, for raft
// threw it away when the snapshot came.
func (h *history) settle() (reset bool) {
	p := h.pending
	h.pending = raftPoint{}
	if p.Index < h.base.Index || p.Index <= h.last && (h.term(p.Index) == p.Term || h.term(p.Index) == 0) {
		return false
	}
	h.base, h.last, h.terms = p, p.Index, h.terms[:0]
	return true
}

// forgetBefore lets go of what only concerns entries below first, and of all snapshot records but the last few.
func (h *history) forgetBefore(first uint64) {
	if n := len(h.snaps); n > snapsKept {
		h.snaps = append([]SnapshotRecord(nil), h.snaps[n-snapsKept:]...)
	}
	if first <= h.base.Index+1 || first > h.last {
		return
	}
	h.base = raftPoint{Index: first - 1, Term: h.term(first - 1)}
	i := 0
	for i+1 < len(h.terms) && h.terms[i+1].First <= first {
		i++
	}
	h.terms = append([]TermRun(nil), h.terms[i:]...)
	h.terms[0].First = first
}

// snapsKept bounds the snapshot records remembered; the last one is the one that matters.
const snapsKept = 8

// recorded reports whether a snapshot record like r stands in the log and counts.
func (h *history) recorded(r SnapshotRecord) bool {
	return r.Index <= h.state.Commit && slices.ContainsFunc(h.snaps, func(s SnapshotRecord) bool {
		return s.Index == r.Index && s.Term == r.Term
	})
}

// validSnapshots returns the records that count: what they stand for is committed.
func (h *history) validSnapshots() []SnapshotRecord {
	var valid []SnapshotRecord
	for _, r := range h.snaps {
		if r.Index <= h.state.Commit {
			valid = append(valid, r)
		}
	}
	return valid
}

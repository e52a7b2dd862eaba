package replica

import (
	"fmt"
	"math/bits"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// window answers raft's Storage questions from memory, so that the loop never waits for a disk.
//
//	      first            base                last
//	  ------|----------------|-------------------|
//	released  only on disk        entries
//	        |------------ terms known -----------|   (and the term of first-1)
//
// Entries enter when they are handed to the log writer, not when they are durable: raft itself keeps every entry it does
// not know to be durable, and asks here only for older ones, which nothing still on its way can overwrite.
//
// Invariant: base <= applied+1, so that everything raft may want to hand to the applier is in memory.
// Owned by the loop.
type window struct {
	hard *raftpb.HardState // at start
	conf *raftpb.ConfState // in force at the applied index, as far as the loop knows

	first   uint64          // index of the oldest entry the log still has on disk
	base    uint64          // index of entries[0]
	entries []*raftpb.Entry // (base-1, last]; shared with raft and the other goroutines, hence never overwritten in place
	size    uint64          // bytes of entries, as encoded
	terms   termRuns
	shed    dropped   // from the front, and still kept alive by the array of entries
	ahead   readAhead // read back from disk, for [first, base)
	applied uint64    // what the applier reported
}

var _ raft.Storage = (*window)(nil)

// InitialState implements raft.Storage.
func (w *window) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return w.hard, w.conf, nil
}

// FirstIndex implements raft.Storage.
func (w *window) FirstIndex() (uint64, error) { return w.first, nil }

// LastIndex implements raft.Storage.
func (w *window) LastIndex() (uint64, error) { return w.last(), nil }

func (w *window) last() uint64 { return w.base + uint64(len(w.entries)) - 1 }

// Term implements raft.Storage.
func (w *window) Term(i uint64) (uint64, error) {
	switch {
	case i+1 < w.first || i < w.terms[0].From: // the entry before the first one may be known or not
		return 0, raft.ErrCompacted
	case i > w.last():
		return 0, raft.ErrUnavailable
	}
	return w.terms.at(i), nil
}

// Entries implements raft.Storage. Entries that are on disk only are asked for and answered with an empty slice until
// they have come; raft then sends an empty append, which keeps the follower alive.
func (w *window) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	switch {
	case lo < w.first:
		return nil, raft.ErrCompacted
	case hi > w.last()+1:
		return nil, raft.ErrUnavailable
	case lo < w.base:
		return limit(w.ahead.find(lo, min(hi, w.base), w.base), maxSize), nil
	}
	return limit(w.entries[lo-w.base:hi-w.base], maxSize), nil
}

// Snapshot implements raft.Storage. It names the state that is applied; the data are the sender's business (Transport).
func (w *window) Snapshot() (*raftpb.Snapshot, error) {
	if w.applied == 0 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index:     new(w.applied),
		Term:      new(w.terms.at(w.applied)),
		ConfState: w.conf,
	}}, nil
}

// append adds entries at the end, or in place of a tail that a new leader overruled.
func (w *window) append(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	at := entries[0].GetIndex()
	if at < w.base || at > w.last()+1 {
		panic(fmt.Sprintf("replica: append at %d to entries [%d, %d]", at, w.base, w.last()))
	}
	keep := at - w.base
	if keep < uint64(len(w.entries)) {
		w.size -= entriesSize(w.entries[keep:])
		w.entries = w.entries[:keep:keep] // the overruled tail may still be read elsewhere: the next append copies
	}
	w.entries = append(w.entries, entries...)
	for _, e := range entries {
		w.size += entrySize(e)
		w.terms.add(e.GetIndex(), e.GetTerm())
	}
}

// trim forgets applied entries that exceed what is kept for followers slightly behind.
func (w *window) trim(keepEntries int, keepBytes uint64) {
	var old dropped
	for w.base+uint64(old.entries) <= w.applied {
		below := int(w.applied-w.base) + 1 - old.entries
		if below <= keepEntries && w.size-old.bytes <= keepBytes {
			break
		}
		old.bytes += entrySize(w.entries[old.entries])
		old.entries++
	}
	w.drop(old)
}

// dropped is what the window forgets, or has forgotten.
type dropped struct {
	entries int
	bytes   uint64
}

// drop forgets the oldest entries. Every so often the rest moves to an array of its own: the old one keeps what was
// dropped alive, and cannot be cleared because others may be reading it.
func (w *window) drop(old dropped) {
	if old.entries == 0 {
		return
	}
	w.base += uint64(old.entries)
	w.entries = w.entries[old.entries:]
	w.size -= old.bytes
	w.shed = dropped{w.shed.entries + old.entries, w.shed.bytes + old.bytes}
	if w.shed.entries > len(w.entries)+copyAfterDropped || w.shed.bytes > copyAfterBytes {
		w.entries = append(make([]*raftpb.Entry, 0, len(w.entries)+copyAfterDropped), w.entries...)
		w.shed = dropped{}
	}
}

// copyAfterDropped is how many forgotten entries may be kept alive by the array they stood in, beside as many as are
// still in use, and copyAfterBytes how large they may be: enough that copying pointers costs nothing.
const (
	copyAfterDropped = 1024
	copyAfterBytes   = 1 << 20
)

// restart begins anew behind a snapshot that replaces everything up to its index.
func (w *window) restart(m *raftpb.SnapshotMetadata) {
	index := m.GetIndex()
	*w = window{
		hard:    w.hard,
		conf:    m.GetConfState(),
		first:   index + 1,
		base:    index + 1,
		terms:   termRuns{{From: index, Term: m.GetTerm()}},
		applied: index,
		ahead:   readAhead{reading: w.ahead.reading},
	}
}

// compact takes note that the log on disk ends before first now. The part between applied and last stays.
func (w *window) compact(first uint64) {
	if first <= w.first {
		return
	}
	if first > w.applied+1 {
		panic(fmt.Sprintf("replica: release the log up to %d, applied is %d", first-1, w.applied))
	}
	w.first = first
	if first > w.base {
		n := int(first - w.base)
		w.drop(dropped{n, entriesSize(w.entries[:n])})
	}
	w.terms.release(first - 1)
	w.ahead.release(first)
}

// termRuns keeps the term of every index in a range, one item per term.
type termRuns []TermRun

// at returns the term at index i. The newest runs are asked for most, so it searches from the end.
func (t termRuns) at(i uint64) uint64 {
	for n := len(t) - 1; n >= 0; n-- {
		if t[n].From <= i {
			return t[n].Term
		}
	}
	panic(fmt.Sprintf("replica: term of %d asked, known are %v", i, t))
}

// add says that the entry at index i, now the last one, is of this term.
func (t *termRuns) add(i, term uint64) {
	runs := *t
	for len(runs) > 0 && runs[len(runs)-1].From >= i {
		runs = runs[:len(runs)-1]
	}
	if len(runs) == 0 || runs[len(runs)-1].Term != term {
		runs = append(runs, TermRun{From: i, Term: term})
	}
	*t = runs
}

// release forgets the terms below index i.
func (t *termRuns) release(i uint64) {
	runs := *t
	for len(runs) > 1 && runs[1].From <= i {
		runs = runs[1:]
	}
	*t = append(termRuns(nil), runs...)
}

// limit returns the longest head of entries that is not larger than maxSize, at least one entry if there is any.
func limit(entries []*raftpb.Entry, maxSize uint64) []*raftpb.Entry {
	var size uint64
	for n, e := range entries {
		size += entrySize(e)
		if size > maxSize && n > 0 {
			return entries[:n:n]
		}
	}
	return entries[:len(entries):len(entries)]
}

func entriesSize(entries []*raftpb.Entry) (size uint64) {
	for _, e := range entries {
		size += entrySize(e)
	}
	return size
}

// entrySize is the length of e encoded, counted by hand: it is asked for several times per entry, and reflection would
// cost more than the copy it guards against.
func entrySize(e *raftpb.Entry) uint64 {
	size := 1 + varintSize(e.GetTerm()) + 1 + varintSize(e.GetIndex())
	if e.Type != nil {
		size += 2
	}
	if e.Data != nil {
		size += 1 + varintSize(uint64(len(e.Data))) + len(e.Data)
	}
	return uint64(size)
}

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// checkEntries says what is wrong with entries that should follow a position.
func checkEntries(entries []*raftpb.Entry, after Position) error {
	for _, e := range entries {
		if want := after.Index + 1; e.GetIndex() != want {
			return fmt.Errorf("entry %d stands where entry %d should", e.GetIndex(), want)
		}
		if e.GetTerm() < after.Term {
			return fmt.Errorf("entry %d is of term %d, the one before it of term %d", e.GetIndex(), e.GetTerm(), after.Term)
		}
		after = Position{e.GetIndex(), e.GetTerm()}
	}
	return nil
}

package replica

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"holdfast/util/queue"
)

// Limits of what is read back from the log on disk for followers that are far behind.
const (
	// readAheadBytes is read at once: some appends of the largest size, so that one read from the disk feeds several
	// round trips to a follower.
	readAheadBytes = 4 << 20
	// readAheadChunks are kept. Followers rarely lag at more than one or two places; at more, they take turns.
	readAheadChunks = 4
)

// readAhead holds old entries that were read back from the log on disk and remembers which are wanted next.
// All of them are applied, so a new leader never overrules them. Owned by the loop.
type readAhead struct {
	chunks  [][]*raftpb.Entry // each without gaps, oldest read first
	wanted  span              // to be read next; empty when nothing is
	reading bool              // a read is under way; wanted waits for it
}

// span is a range of indexes [lo, hi).
type span struct{ lo, hi uint64 }

// find returns the entries from lo up to hi that have been read, none if lo has not. It asks for what is missing, and for
// what comes after the chunk in use, up to base where the window takes over.
func (a *readAhead) find(lo, hi, base uint64) []*raftpb.Entry {
	for _, chunk := range a.chunks {
		from, to := chunk[0].GetIndex(), chunk[len(chunk)-1].GetIndex()+1
		if lo < from || lo >= to {
			continue
		}
		if !a.has(to) && to < base {
			a.want(span{to, base})
		}
		return chunk[lo-from : min(hi, to)-from]
	}
	a.want(span{lo, base})
	return nil
}

func (a *readAhead) has(i uint64) bool {
	for _, chunk := range a.chunks {
		if i >= chunk[0].GetIndex() && i <= chunk[len(chunk)-1].GetIndex() {
			return true
		}
	}
	return false
}

func (a *readAhead) want(s span) {
	if a.wanted == (span{}) {
		a.wanted = s
	}
}

// next returns what to read now, once.
func (a *readAhead) next() (span, bool) {
	s := a.wanted
	if a.reading || s == (span{}) {
		return span{}, false
	}
	a.wanted, a.reading = span{}, true
	return s, true
}

// add takes in what was read. first is the oldest index the log has now.
func (a *readAhead) add(entries []*raftpb.Entry, first uint64) {
	a.reading = false
	if len(entries) == 0 || entries[0].GetIndex() < first {
		return // released meanwhile: raft will find it compacted
	}
	if len(a.chunks) == readAheadChunks {
		a.chunks = append([][]*raftpb.Entry(nil), a.chunks[1:]...)
	}
	a.chunks = append(a.chunks, entries)
}

// release forgets chunks that begin below first.
func (a *readAhead) release(first uint64) {
	kept := a.chunks[:0]
	for _, chunk := range a.chunks {
		if chunk[0].GetIndex() >= first {
			kept = append(kept, chunk)
		}
	}
	clear(a.chunks[len(kept):])
	a.chunks = kept
	if a.wanted.lo < first {
		a.wanted = span{}
	}
}

// reader is what the caller of ReadLog owns.
type reader struct {
	wake  chan struct{}
	work  *queue.Mailbox[span]
	spare []span
}

func newReader() reader {
	wake := make(chan struct{}, 1)
	return reader{wake: wake, work: queue.NewMailbox[span](wake)}
}

// ReadLog reads old entries back from the log for followers that are far behind, if any are wanted. It may wait for the
// disk. Called by one goroutine: Run's, or a simulator's.
func (r *Replica) ReadLog() error {
	r.reader.spare = r.reader.work.Take(r.reader.spare)
	for _, s := range r.reader.spare {
		entries, err := r.cfg.Log.Entries(s.lo, s.hi, readAheadBytes)
		if err != nil {
			return fmt.Errorf("read entries [%d, %d) back from the log: %w", s.lo, s.hi, err)
		}
		if err := checkEntries(entries, Position{Index: s.lo - 1}); err != nil {
			return fmt.Errorf("read entries [%d, %d) back from the log: %w", s.lo, s.hi, err)
		}
		r.inbox.Put(event{call: func() { r.loop.readBack(entries) }})
	}
	return nil
}

package raftlog

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// batchBytesKept bounds the buffer kept between batches: large enough for a full queue of ordinary puts, small enough
// that one huge entry does not stay in memory.
const batchBytesKept = 4 << 20

// A batch is what one write puts on disk, together with the history as it will be then. On disk it reads
//
//	[snapshot record [state]]  entries  [state]
//
// and whenever it holds entries it ends with a state, repeated if nothing changed: so a reader can tell where a batch with
// entries ended, and with it what had been synced (judgeTail). The 32 bytes are nothing beside the sync.
type batch struct {
	buf    []byte
	off    int64 // where buf goes
	crc    uint32
	hist   history
	any    bool // holds more than a segment's header
	places []place
	head   [entryHeaderBytesMax]byte
}

// A place is what a record means for the index: an entry, a reset, or both.
type place struct {
	entry uint64
	off   int64
	crc   uint32
	reset bool
}

func (b *batch) start(off int64, crc uint32, hist *history) {
	b.buf, b.places = b.buf[:0], b.places[:0]
	b.off, b.crc, b.any = off, crc, false
	b.hist.copyFrom(hist)
}

// trim gives memory back after an unusually large batch.
func (b *batch) trim() {
	if cap(b.buf) > batchBytesKept {
		b.buf, b.places = nil, nil
	}
}

// checked panics when the caller wants something stored that contradicts the log.
func (b *batch) checked(err error) {
	if err != nil {
		panic(fmt.Sprintf("raftlog: append after entry %d, state %+v: %v", b.hist.last, b.hist.state, err))
	}
}

func (b *batch) add(t Type, head, body []byte) {
	b.buf, b.crc = appendRecord(b.buf, b.crc, t, head, body)
	b.any = true
}

// header begins a segment.
func (b *batch) header(meta []byte) {
	b.add(TypeCRC, nil, nil)
	b.add(TypeMetadata, meta, nil)
	if b.hist.state != (HardState{}) {
		b.add(TypeState, b.hist.state.encode(b.head[:0]), nil)
	}
	b.any = false
}

// mustSync reports whether somebody relies on the saves being durable. raft does for entries, a snapshot, the term and the vote.
func (b *batch) mustSync(saves []Save) bool {
	for _, s := range saves {
		changed := s.State != (HardState{}) && (s.State.Term != b.hist.state.Term || s.State.Vote != b.hist.state.Vote)
		if changed || s.Sync || s.Snapshot != nil || len(s.Entries) > 0 {
			return true
		}
	}
	return false
}

func (b *batch) addSaves(saves []Save) error {
	state, entries := b.hist.state, 0
	for _, s := range saves {
		entries += len(s.Entries)
		if s.State != (HardState{}) {
			state = s.State
		}
	}
	// A snapshot record may have raised the commit index before raft's own word of it came through the queue.
	state.Commit = max(state.Commit, b.hist.state.Commit)
	if snap := saves[0].Snapshot; snap != nil {
		state.Commit = max(state.Commit, snap.Index)
		if err := b.addSnapshot(*snap, state); err != nil {
			return err
		}
	}
	for _, s := range saves {
		for _, e := range s.Entries {
			if err := b.addEntry(e); err != nil {
				return err
			}
		}
	}
	if state != b.hist.state || entries > 0 && state != (HardState{}) {
		b.addState(state)
	}
	return nil
}

// addSnapshot adds a snapshot record and, if it is above the commit index, at once the state that makes it count: were
// entries torn off after it that follow the snapshot, the log would have neither what is before it nor the snapshot.
func (b *batch) addSnapshot(r SnapshotRecord, state HardState) error {
	if r.ConfState == nil && r.Index > 0 {
		panic(fmt.Sprintf("raftlog: snapshot record %d without configuration", r.Index))
	}
	data, err := r.encode()
	if err != nil {
		return err
	}
	b.add(TypeSnapshot, data, nil)
	b.checked(b.hist.snapshot(r))
	if r.Index > b.hist.state.Commit {
		state.Commit = r.Index
		b.addState(state)
	}
	return nil
}

func (b *batch) addEntry(e *raftpb.Entry) error {
	head, body, err := encodeEntry(b.head[:0], e)
	if err != nil {
		return fmt.Errorf("encode entry %d: %w", e.GetIndex(), err)
	}
	p := place{entry: e.GetIndex(), off: b.off + int64(len(b.buf)), crc: b.crc}
	b.add(TypeEntry, head, body)
	p.reset, err = b.hist.entry(entryFields{typ: e.GetType(), term: e.GetTerm(), index: e.GetIndex(), data: e.Data})
	b.checked(err)
	b.places = append(b.places, p)
	return nil
}

func (b *batch) addState(s HardState) {
	b.add(TypeState, s.encode(b.head[:0]), nil)
	reset, err := b.hist.hardState(s)
	b.checked(err)
	if reset {
		b.places = append(b.places, place{reset: true})
	}
}

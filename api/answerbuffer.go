package api

import (
	"sync/atomic"

	"google.golang.org/grpc/mem"

	"holdfast/kv"
	"holdfast/mvcc"
)

// answerBuffer is a part of an answer, which gRPC reads when it is its turn, and frees. Of the methods of a mem.Buffer that
// nobody but gRPC can have it calls none when it sends.
type answerBuffer struct {
	mem.Buffer // nil
	of         *answer
	n          int
	refs       atomic.Int32

	// The fields below are guarded by of.mu.
	from   []byte // key of the first row, for reading it again; nil: not known yet
	data   []byte // nil: to be read again
	room   int64  // held for data
	handed bool   // gRPC has seen the data, and may be in the middle of it
	fixed  bool   // small, and always there
	pooled bool   // data is a chunk that can be used again
}

// Len implements mem.Buffer.
func (b *answerBuffer) Len() int { return b.n }

// Ref implements mem.Buffer.
func (b *answerBuffer) Ref() { b.refs.Add(1) }

// ReadOnlyData implements mem.Buffer. Nothing is what an answer gets that cannot be completed: gRPC ends the connection then. A
// part of which some was sent already keeps its length, since gRPC counts on it.
func (b *answerBuffer) ReadOnlyData() []byte {
	w := b.of
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive = w.of.now()
	if b.data == nil && !w.failed {
		b.readAgain()
	}
	switch {
	case b.data != nil && (b.handed || !w.failed):
		b.handed = true
		return b.data
	case b.handed:
		return make([]byte, b.n)
	}
	return nil
}

// Slice implements mem.Buffer.
func (b *answerBuffer) Slice(start, end int) mem.Buffer {
	return mem.SliceBuffer(append([]byte(nil), b.ReadOnlyData()[start:end]...))
}

// Free implements mem.Buffer.
func (b *answerBuffer) Free() {
	if b.refs.Add(-1) > 0 {
		return
	}
	w := b.of
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.pooled {
		kv.FreeChunk(b.data)
	}
	b.data = nil
	w.give(b.room)
	if w.left--; w.left > 0 {
		return
	}
	w.of.remove(w)
	if err := w.drop(); err != nil {
		w.of.log.Error("letting go of the store for an answer that is sent", "error", err)
	}
}

// readAgain reads the rows from the store. Caller holds of.mu.
func (b *answerBuffer) readAgain() {
	w := b.of
	if !w.work && !w.resume() {
		w.failed = true
		return
	}
	w.of.pace.wait(sendCost)
	data, err := w.rest.Read(mvcc.Piece{From: b.from, Bytes: b.n})
	if err != nil {
		w.failed = true
		w.end()
		w.of.log.Warn("an answer breaks off", "error", err)
		return
	}
	// Who reads without freeing, as net/http's side of gRPC may, has no more than two in memory.
	if old := w.again[w.next]; old != nil && old != b {
		old.data, old.pooled = nil, false
	}
	w.again[w.next] = b
	w.next = 1 - w.next
	b.data, b.pooled = data, true
}

// park gives the data back, whether it can be read again or not. Caller holds of.mu.
func (b *answerBuffer) park() {
	if b.fixed || b.data == nil {
		return
	}
	if b.from == nil && b.of.rest != nil {
		p, err := b.of.rest.PieceOf(b.data)
		if err != nil {
			b.of.failed = true
		}
		b.from = p.From
	}
	b.data, b.room, b.pooled = nil, 0, false
}

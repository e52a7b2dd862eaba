package api

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"

	"holdfast/kv"
	"holdfast/mvcc"
	"holdfast/server"
)

// answer is one range's answer, from when it asks for room until it is sent. While it is made one goroutine has it, then gRPC.
type answer struct {
	of *answers

	asked  int64           // for as many bytes
	ready  bool            // held is all that it gets
	whole  bool            // it has to be in memory as a whole, and holds the token
	turn   bool            // it is measured, and holds one of those tokens
	frames mem.BufferSlice // what is sent, once it is made

	mu      sync.Mutex // guards the fields below; held while a piece is read
	small   int64      // held without having waited
	held    int64      // of the bound
	work    bool       // it has workBytes: among held, or
	resumed bool       // of what is kept for those that were parked
	rest    *mvcc.Rest // nil: nothing can be read again
	left    int        // buffers not sent yet
	again   [2]*answerBuffer
	next    int  // in again
	alive   int  // tick of the last sign of life
	failed  bool // it cannot be completed
}

// errWait says that there is no room at present, errTurn that others are being measured.
var (
	errWait = errors.New("api: no room for an answer now")
	errTurn = errors.New("api: an answer has to wait before it is measured")
)

// Take implements mvcc.Room.
func (w *answer) Take(chunk int) (bool, error) {
	n := int64(chunk)
	w.asked += n
	switch {
	case w.ready:
		return w.asked <= w.held || w.asked == n && !w.whole, nil // a message has one row at least
	case w.asked <= smallAnswer && !w.work && w.of.takeSmall(n):
		w.small += n
		return true, nil
	case !w.work && !w.of.budget.TryAcquire(workBytes):
		return false, errWait
	case !w.work:
		w.work, w.held = true, workBytes
	}
	if w.asked > w.of.max/8 || !w.of.budget.TryAcquire(n) {
		return false, w.takeTurn()
	}
	w.held += n
	return true, nil
}

// takeTurn lets the answer be measured, if it is not another's turn.
func (w *answer) takeTurn() error {
	if w.turn {
		return nil
	}
	select {
	case <-w.of.turns:
		w.turn = true
		return nil
	default:
		return errTurn
	}
}

// awaitTurn waits until the answer may be measured, and holds no more than it needs meanwhile.
func (w *answer) awaitTurn(ctx context.Context) error {
	if err := w.acquireWork(ctx); err != nil {
		return err
	}
	err := awaitToken(ctx, w.of.turns)
	w.turn = err == nil
	return err
}

// endTurn lets another be measured.
func (w *answer) endTurn() {
	if w.turn {
		w.turn = false
		w.of.turns <- struct{}{}
	}
}

// Measured implements mvcc.Room.
func (w *answer) Measured() { w.of.pace.wait(measureCost) }

// room makes an answer of what asks for room: most ranges never do. It is part of the call, which would otherwise need another allocation.
type room struct {
	of *answers
	w  *answer
}

// Take implements mvcc.Room.
func (r *room) Take(n int) (bool, error) {
	if r.w == nil {
		r.w = &answer{of: r.of}
	}
	return r.w.Take(n)
}

// Measured implements mvcc.Room.
func (r *room) Measured() { r.w.Measured() }

// rangeWithin answers q, and waits for room if it has to. The answer is nil where none was needed.
func (a *API) rangeWithin(ctx context.Context, q *rangeCall) (*kv.RangeResult, *answer, error) {
	within := &q.room
	within.of = a.answers
	for {
		r, rest, err := a.member.RangeWithin(ctx, &q.RangeRequest, within)
		w := within.w
		if w == nil {
			return r, nil, err
		}
		w.endTurn()
		switch {
		case errors.Is(err, errTurn):
			err = w.awaitTurn(ctx)
		case errors.Is(err, errWait):
			err = w.acquireWork(ctx)
		case errors.Is(err, mvcc.ErrNoRoom) && !w.whole:
			err = w.acquireWhole(ctx)
		case errors.Is(err, mvcc.ErrNoRoom):
			err = server.ErrTooManyRequests
		default:
			if err == nil {
				w.rest = rest
				return r, w, nil
			}
		}
		if err != nil {
			w.end()
			return nil, nil, err
		}
	}
}

// rangePart is rangeWithin for a message of a stream: it has as many rows as one may hold, and what lies behind them is told by its
// first key; nil is nothing.
func (a *API) rangePart(ctx context.Context, q *kv.RangeRequest, w *answer) (r *kv.RangeResult, behind []byte, err error) {
	w.of = a.answers
	if err := w.acquire(ctx, min(2*int64(a.cfg.RequestBytesMax+requestExtra), a.answers.max/2)); err != nil {
		return nil, nil, err
	}
	w.ready = true
	r, rest, err := a.member.RangeWithin(ctx, q, w)
	if err != nil {
		w.end()
		return nil, nil, err
	}
	if w.asked == 0 {
		w.end()
	}
	if rest != nil && len(rest.Pieces) > 0 {
		behind, rest.Pieces = rest.Pieces[0].From, nil
	}
	w.rest = rest
	return r, behind, nil
}

// acquire waits for n bytes, in place of what is held.
func (w *answer) acquire(ctx context.Context, n int64) error {
	w.end()
	ctx, cancel := context.WithTimeoutCause(ctx, roomTimeout, server.ErrTooManyRequests)
	defer cancel()
	if w.of.budget.Acquire(ctx, n) != nil {
		return context.Cause(ctx)
	}
	w.held = n
	return nil
}

// acquireWork waits for what an answer needs to be sent in pieces.
func (w *answer) acquireWork(ctx context.Context) error {
	err := w.acquire(ctx, workBytes)
	w.work = err == nil
	return err
}

// awaitToken waits for a token, as long as for room.
func awaitToken(ctx context.Context, tokens <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, roomTimeout, server.ErrTooManyRequests)
	defer cancel()
	select {
	case <-tokens:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// acquireWhole waits until nobody else needs half of the bound, and for that half.
func (w *answer) acquireWhole(ctx context.Context) error {
	w.end() // who waits for the token must hold nothing
	if err := awaitToken(ctx, w.of.whole); err != nil {
		return err
	}
	err := w.acquire(ctx, w.of.max/2)
	w.whole, w.ready = err == nil, err == nil
	if err != nil {
		w.of.whole <- struct{}{}
	}
	return err
}

// end gives everything back. Caller holds mu, or has the answer alone.
func (w *answer) end() {
	if w.small > 0 {
		w.of.giveSmall(w.small)
	}
	w.of.budget.Release(w.held)
	if w.resumed {
		w.of.again.Release(workBytes)
	}
	w.resumed = false
	w.asked, w.small, w.held, w.work, w.ready = 0, 0, 0, false, false
	w.endWhole()
}

// endWhole lets another be made whole.
func (w *answer) endWhole() {
	if w.whole {
		w.whole = false
		w.of.whole <- struct{}{}
	}
}

// give returns n bytes, or what is left. Caller holds mu, or has the answer alone.
func (w *answer) give(n int64) {
	if w.small > 0 {
		n = min(n, w.small)
		w.small -= n
		w.of.giveSmall(n)
		return
	}
	n = min(n, w.held)
	w.held -= n
	w.of.budget.Release(n)
}

// send gives what is to be sent of r. head and tail are what stands before and behind its rows.
func (w *answer) send(r *kv.RangeResult, head, tail []byte) *answer {
	var pieces []mvcc.Piece
	if w.rest != nil {
		pieces = w.rest.Pieces
	}
	chunks := r.Rows.Chunks()
	buffers := make([]answerBuffer, 0, len(chunks)+len(pieces)+1)
	for _, chunk := range chunks {
		buffers = append(buffers, answerBuffer{of: w, data: chunk, n: len(chunk), room: int64(cap(chunk)), pooled: true})
	}
	for _, p := range pieces {
		buffers = append(buffers, answerBuffer{of: w, from: p.From, n: p.Bytes})
	}
	buffers = append(buffers, answerBuffer{of: w, data: tail, n: len(tail), fixed: true})
	return w.transmit(head, buffers)
}

// sendWhole is send for parts that lie in memory.
func (w *answer) sendWhole(parts outbound) *answer {
	w.asked = 0
	buffers := make([]answerBuffer, 0, len(parts))
	for _, part := range parts {
		w.asked += int64(len(part))
		buffers = append(buffers, answerBuffer{of: w, data: part, n: len(part), room: int64(len(part))})
	}
	return w.transmit(nil, buffers)
}

// transmit gives the buffers to gRPC.
func (w *answer) transmit(head []byte, buffers []answerBuffer) *answer {
	w.frames = append(make(mem.BufferSlice, 0, 1+len(buffers)), mem.SliceBuffer(head))
	for i := range buffers {
		buffers[i].refs.Store(1)
		w.frames = append(w.frames, &buffers[i])
	}
	w.mu.Lock() // add lets others see it
	defer w.mu.Unlock()
	w.left = len(buffers)
	if w.ready && w.asked <= w.held {
		w.give(w.held - w.asked)
		w.endWhole()
	}
	if (w.rest == nil || len(w.rest.Pieces) == 0) && w.work && w.held > workBytes {
		w.give(workBytes)
		w.work = false
	}
	w.alive = w.of.now()
	w.failed = !w.of.add(w)
	return w
}

// join gives all of an answer, which is not sent then.
func (w *answer) join() ([]byte, error) {
	defer w.frames.Free()
	body := w.frames.Materialize()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed {
		return nil, errors.New("an answer cannot be read to its end")
	}
	return body, nil
}

// drop ends an answer that is not sent.
func (w *answer) drop() error {
	w.end()
	return w.rest.Release()
}

// parkIfResting parks an answer that has not been read from for long.
func (w *answer) parkIfResting(now int) {
	w.mu.Lock()
	rested := now - w.alive
	w.mu.Unlock()
	if rested >= parkAfter || rested >= fixedAfter {
		w.park(rested >= fixedAfter)
	}
}

// park gives everything back. What cannot be read again stays, unless all is to go.
func (w *answer) park(all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rest == nil && !all {
		return
	}
	for _, f := range w.frames {
		if b, is := f.(*answerBuffer); is {
			b.park()
		}
	}
	w.failed = w.failed || w.rest == nil
	w.again = [2]*answerBuffer{}
	w.end()
	if err := w.rest.Release(); err != nil {
		w.failed = true
		w.of.log.Error("letting go of the store for an answer that is not read", "error", err)
	}
	if all {
		w.of.remove(w)
	}
}

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

// resume gives an answer room to be sent in pieces that was parked: of the bound, or of what is kept for that. Its connection waits
// for it, and is lost if there is none for too long. Caller holds mu, which is free meanwhile, since others may have to be parked.
func (w *answer) resume() bool {
	if w.rest == nil {
		return false
	}
	room := w.of.budget
	if !room.TryAcquire(workBytes) {
		room = w.of.again
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(w.of.life, resumeTimeout)
		err := room.Acquire(ctx, workBytes)
		cancel()
		w.mu.Lock()
		if err != nil {
			return false
		}
	}
	if !w.of.add(w) {
		room.Release(workBytes)
		return false
	}
	w.work, w.resumed = true, room == w.of.again
	if !w.resumed {
		w.held += workBytes
	}
	return true
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

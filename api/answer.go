package api

import (
	"context"
	"errors"
	"sync"

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

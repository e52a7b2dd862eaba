package api

import (
	"context"
	"errors"

	"holdfast/server"
)

// How an answer takes room of the bound that all share (answers.go), waits for it, and gives it back.

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

package port

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/peer"
)

// bundled is a connection of gRPC whose writes wait for each other while somebody holds it: who is about to send several messages, or
// knows that others on the connection are, spares it a write for each. gRPC's own writer waits for more only below 1000 bytes, so that an
// event of 1 KB for ten streams of one connection would be ten writes, each some 6 us in the kernel.
//
//	Invariant: what is held back is written when the last holder has released it, when it is bundleBytesMax long, or after bundlePatience.
type bundled struct {
	net.Conn
	number  uint64       // tells it from others; never 0
	streams atomic.Int32 // that have a Hold of it

	holders atomic.Int32
	waiting atomic.Bool // held is not empty
	late    atomic.Bool // somebody held for too long: nothing waits any more until nobody holds

	mu    sync.Mutex  // guards the fields below; held while Conn is written to, as that is one at a time in any case
	acks  pingAcks    // wait for themselves, and nobody waits for them
	held  *[]byte     // of bundleRooms; nil: nothing
	timer *time.Timer // ends the patience with held; nil until first needed
	err   error       // of a write after which Write had returned
}

const (
	// bundleBytesMax is how much is held back: two of gRPC's own buffers. What one write carries beyond costs as much as in another.
	bundleBytesMax = 64 << 10
	// bundlePatience bounds for how long. A holder takes microseconds, except one whose client does not read its stream: the other
	// streams of the connection must not wait for that.
	bundlePatience = time.Millisecond
)

// bundleRooms are buffers for what is held back: for it and what gRPC writes at once.
var bundleRooms = sync.Pool{New: func() any {
	room := make([]byte, 0, bundleBytesMax+bundleBytesMax/2)
	return &room
}}

// bundles counts connections, to number them.
var bundles atomic.Uint64

func bundle(c net.Conn) *bundled { return &bundled{Conn: c, number: bundles.Add(1)} }

// Write implements net.Conn.
func (b *bundled) Write(p []byte) (int, error) {
	n, err := b.write(p)
	b.settle() // who released meanwhile found it locked
	return n, err
}

func (b *bundled) write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	if b.keepAck(p) {
		return len(p), nil
	}
	open, acks := b.holders.Load() == 0 || b.late.Load(), b.acks.due(p)
	if open && b.held == nil && len(acks) == 0 {
		return b.Conn.Write(p)
	}
	if b.held == nil {
		b.held = bundleRooms.Get().(*[]byte)
		if !open {
			b.arm()
		}
	}
	*b.held = append(append(*b.held, acks...), p...)
	b.waiting.Store(true)
	if open || len(*b.held) >= bundleBytesMax {
		b.flush()
	}
	return len(p), b.err
}

// Close implements net.Conn. The last words of a connection are written, but not waited for.
func (b *bundled) Close() error {
	if b.mu.TryLock() {
		if b.held != nil && b.Conn.SetWriteDeadline(time.Now().Add(bundlePatience)) == nil {
			b.flush()
		}
		b.mu.Unlock()
	}
	return b.Conn.Close()
}

// hold lets what is written wait until release. It takes no lock.
func (b *bundled) hold() { b.holders.Add(1) }

// release ends one hold.
func (b *bundled) release() {
	if b.holders.Add(-1) == 0 {
		b.late.Store(false)
		b.settle()
	}
}

// settle writes what waits for nobody any more. If the connection is being written to, who writes settles it.
func (b *bundled) settle() {
	for b.waiting.Load() && b.holders.Load() == 0 && b.mu.TryLock() {
		b.flush()
		b.mu.Unlock()
	}
}

// expire ends the patience.
func (b *bundled) expire() {
	b.late.Store(b.holders.Load() > 0)
	b.mu.Lock()
	b.flush()
	b.mu.Unlock()
	b.settle()
}

// The methods below need mu.

func (b *bundled) arm() {
	if b.timer == nil {
		b.timer = time.AfterFunc(bundlePatience, b.expire)
		return
	}
	b.timer.Reset(bundlePatience)
}

func (b *bundled) flush() {
	if b.held == nil {
		return
	}
	if b.timer != nil {
		b.timer.Stop()
	}
	_, b.err = b.Conn.Write(*b.held)
	*b.held = (*b.held)[:0]
	bundleRooms.Put(b.held)
	b.held = nil
	b.waiting.Store(false)
}

// bundledAddr is how a call finds its connection: gRPC tells it the address.
type bundledAddr struct {
	net.Addr
	conn *bundled
}

// RemoteAddr implements net.Conn.
func (b *bundled) RemoteAddr() net.Addr { return bundledAddr{b.Conn.RemoteAddr(), b} }

// Hold is that of a stream of calls on its connection, which it has from when it is woken until it has sent what there was. It is for
// two goroutines: one that takes it and one that gives it back. The zero value holds nothing.
type Hold struct {
	conn  *bundled // nil: there is nothing to hold
	state atomic.Int32
}

// The states of a Hold.
const (
	notHeld int32 = iota
	isHeld
	holdsNoMore // the stream is over
)

// HoldOf is for the stream of ctx. beside is the number of its connection if others were on that before, else 0. It holds nothing if the stream did not
// come through a port.
func HoldOf(ctx context.Context) (h *Hold, beside uint64) {
	h = new(Hold)
	if p, ok := peer.FromContext(ctx); ok {
		if at, ok := p.Addr.(bundledAddr); ok {
			h.conn = at.conn
		}
	}
	if h.conn == nil || h.conn.streams.Add(1) == 1 {
		return h, 0
	}
	return h, h.conn.number
}

// Take holds the connection unless that is so already, the stream is over or it is the only one: nothing would go out together then.
func (h *Hold) Take() {
	if h.conn == nil || h.conn.streams.Load() < 2 || h.state.Load() != notHeld {
		return
	}
	h.conn.hold() // first: Give may come at once
	if !h.state.CompareAndSwap(notHeld, isHeld) {
		h.conn.holders.Add(-1) // and no more: who wakes streams must not write. What waits goes when the patience ends.
	}
}

// Give releases the connection.
func (h *Hold) Give() { h.become(notHeld) }

// End releases the connection for good. It is called once.
func (h *Hold) End() {
	h.become(holdsNoMore)
	if h.conn != nil {
		h.conn.streams.Add(-1)
	}
}

func (h *Hold) become(state int32) {
	if h.state.Swap(state) == isHeld {
		h.conn.release()
	}
}

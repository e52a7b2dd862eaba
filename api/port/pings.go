package port

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"
)

// pingAcks are answers to pings that wait for something else to be written. A client of gRPC sends a ping with each answer that it gets, to
// measure the connection, and no other before that one is answered: answered at once, each put is a second write for us, some 6 us in the
// kernel, and a second wake-up for the client. Like this, the connection seems longer to the client by pingRest. One that is sent much does not wait: it
// would take what it gets meanwhile for what fits on the way, and give us too large a window. Nor does one that is sent something so seldom that
// nothing would come along: a timer that fires for each answer costs more than the write.
type pingAcks struct {
	kept  []byte
	since time.Time   // the first of them
	last  time.Time   // the last ping was answered or kept; zero: none was
	timer *time.Timer // sends them alone; nil until first needed
	armed bool

	frames frames // that are written: an answer goes between two of them
	bytes  int    // written since the last answer
}

const (
	// pingRest is how long the answer to a ping waits before it goes with what is written next: a hundred pings a second are enough to measure
	// anything, and 10 ms are little for who wants to know whether we live.
	pingRest = 10 * time.Millisecond
	// pingPatience is how long it waits if nothing is written.
	pingPatience = 2 * pingRest
	// pingBytes are written without an answer: half of the smallest window that a client of gRPC gives.
	pingBytes = 32 << 10
	// pingAckBytes is the length of an answer, and pingAcksMax how many wait: a client that measures has one under way, and one that wants to
	// know whether we live another.
	pingAckBytes = frameHeadBytes + 8
	pingAcksMax  = 4
)

// isPingAck tells whether p is the answer to a ping and nothing else.
func isPingAck(p []byte) bool {
	const head = uint64(8)<<40 | uint64(http2.FramePing)<<32 | uint64(http2.FlagPingAck)<<24
	return len(p) == pingAckBytes && binary.BigEndian.Uint64(p) == head
}

// due takes what has waited for long enough and may go before p, which is written next.
func (a *pingAcks) due(p []byte) (acks []byte) {
	between := a.frames.between()
	a.frames.pass(p)
	a.bytes += len(p)
	if between && len(a.kept) > 0 && (a.bytes >= pingBytes || time.Since(a.since) >= pingRest) {
		return a.take()
	}
	return nil
}

func (a *pingAcks) take() []byte {
	acks := a.kept
	a.kept, a.bytes = a.kept[:0], 0 // the caller is done with it before it lets go of mu
	return acks
}

// keepAck lets p wait if it is the answer to a ping. Needs mu.
func (b *bundled) keepAck(p []byte) bool {
	a := &b.acks
	if !isPingAck(p) || !a.frames.between() {
		return false
	}
	now := time.Now()
	seldom := now.Sub(a.last) > pingPatience
	a.last = now
	if seldom && len(a.kept) == 0 || a.bytes >= pingBytes || len(a.kept) >= pingAcksMax*pingAckBytes {
		a.bytes = 0
		return false
	}
	if len(a.kept) == 0 {
		a.since = now
	}
	a.kept = append(a.kept, p...)
	if !a.armed {
		a.arm(pingPatience, b.sendAcks)
	}
	return true
}

func (a *pingAcks) arm(after time.Duration, send func()) {
	a.armed = true
	if a.timer == nil {
		a.timer = time.AfterFunc(after, send)
		return
	}
	a.timer.Reset(after)
}

// sendAcks is called by the timer: it runs on after what it was set for has been written, as stopping and starting it for each ping would
// cost more.
func (b *bundled) sendAcks() {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.acks
	a.armed = false
	if len(a.kept) == 0 || b.err != nil {
		return
	}
	if !a.frames.between() {
		a.arm(pingPatience, b.sendAcks)
		return
	}
	if age := time.Since(a.since); age < pingRest {
		a.arm(pingPatience-age, b.sendAcks)
		return
	}
	if b.held != nil {
		*b.held = append(*b.held, a.take()...)
		return
	}
	_, b.err = b.Conn.Write(a.take())
}

// frames follows the frames in what is written. gRPC's writes begin and end anywhere.
type frames struct {
	head [frameHeadBytes]byte
	have int // of head
	body int // bytes of the frame that are still to come
}

// between tells whether a frame begins with what comes next.
func (f *frames) between() bool { return f.have == 0 && f.body == 0 }

func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		if f.body > 0 {
			n := min(f.body, len(p))
			p, f.body = p[n:], f.body-n
			continue
		}
		n := copy(f.head[f.have:], p)
		p, f.have = p[n:], f.have+n
		if f.have == frameHeadBytes {
			f.have, f.body = 0, int(binary.BigEndian.Uint32(f.head[:4])>>8)
		}
	}
}

package cluster

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is what carries bytes from one place to another, over all connections between the two, whoever opened them.
// The other direction has a link of its own.
type link struct {
	carried atomic.Int64 // bytes since the start

	mu      sync.Mutex // guards the fields below
	cut     bool       // what is on the way waits, as it does while packets are lost and sent again
	delay   time.Duration
	rate    int           // bytes per second; 0 is as fast as it goes
	free    time.Time     // when the next byte may go, if there is a rate
	changed chan struct{} // closed and replaced when a field above changes
}

func newLink() *link { return &link{changed: make(chan struct{})} }

// condition of a link, as faults set it. The zero condition is a link that works.
type condition struct {
	cut   bool
	delay time.Duration
	rate  int
}

func (l *link) set(c condition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.delay, l.rate = c.cut, c.delay, c.rate
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

// pass returns when size bytes that were sent at a moment may arrive; it reports false if the connection ends before.
func (l *link) pass(gone <-chan struct{}, sent time.Time, size int) bool {
	for {
		l.mu.Lock()
		now := time.Now()
		wait := time.Until(sent.Add(l.delay))
		if l.rate > 0 {
			wait = max(wait, time.Until(l.free))
		}
		if !l.cut && wait <= 0 {
			if l.rate > 0 {
				l.free = now.Add(time.Duration(size) * time.Second / time.Duration(l.rate))
			}
			l.mu.Unlock()
			l.carried.Add(int64(size))
			return true
		}
		cut, changed := l.cut, l.changed
		l.mu.Unlock()
		var due <-chan time.Time
		if !cut {
			due = time.After(wait)
		}
		select {
		case <-due:
		case <-changed:
		case <-gone:
			return false
		}
	}
}

// piece of a stream on its way: data, or the end with its cause.
type piece struct {
	sent time.Time
	data []byte
	end  error
}

// A link holds inFlight pieces of up to pieceBytes of one connection; then the sender waits, as for a full window.
const (
	inFlight   = 64
	pieceBytes = 16 << 10
)

// pump carries what comes from src to dst until src ends or p does. The end travels like the data: while the link is cut, nobody
// hears of it.
func (l *link) pump(p *path, dst, src net.Conn) {
	pieces := make(chan piece, inFlight)
	go func() { // ends when src does, at the latest with p
		defer close(pieces)
		for {
			data := make([]byte, pieceBytes)
			n, err := src.Read(data)
			select {
			case pieces <- piece{time.Now(), data[:n], err}:
			case <-p.gone:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	lost := false // dst is closed, of which the other direction tells src
	for next := range pieces {
		if !l.pass(p.gone, next.sent, len(next.data)) {
			return
		}
		if len(next.data) > 0 && !lost {
			_, err := dst.Write(next.data)
			lost = err != nil
		}
		switch {
		case next.end == nil:
		case errors.Is(next.end, io.EOF):
			_ = dst.(*net.TCPConn).CloseWrite() // fails when dst is gone already
		default:
			p.close()
		}
	}
}

// path is one connection through the network: two sockets, and a link for each direction.
type path struct {
	near, far net.Conn // far is nil until it is open
	once      sync.Once
	gone      chan struct{} // closed with the path
}

// close ends both connections at once, as a reset does.
func (p *path) close() {
	p.once.Do(func() { close(p.gone) })
	abort(p.near)
	if p.far != nil {
		abort(p.far)
	}
}

// abort closes a connection with a reset.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

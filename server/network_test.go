package server

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network connects members in memory, under the time of a bubble. An address is known once somebody has listened there; when
// nobody does any more it refuses, as a machine does whose process has ended.
type network struct {
	delay time.Duration // that everything takes on its way; set before anybody dials

	mu        sync.Mutex // guards the fields below
	listeners map[string]*pipeListener
	conns     map[*pipeConn]bool
	lives     map[string]int  // how often somebody hung up at an address: who is left there of an earlier life reaches nobody
	silent    map[string]bool // addresses cut off: nothing arrives there or from there, and nobody is told
	deaf      map[string]bool // addresses at which nothing arrives
}

func newNetwork() *network {
	return &network{listeners: map[string]*pipeListener{}, conns: map[*pipeConn]bool{}, lives: map[string]int{}, silent: map[string]bool{}, deaf: map[string]bool{}}
}

func (n *network) listen(address string) net.Listener {
	closed := make(chan struct{})
	l := &pipeListener{address: address, accept: make(chan net.Conn), closed: closed, close: sync.OnceFunc(func() { close(closed) })}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[address] = l
	return l
}

// dialFrom connects for whoever lives at from now.
func (n *network) dialFrom(from string) func(context.Context, string, string) (net.Conn, error) {
	n.mu.Lock()
	life := n.lives[from]
	n.mu.Unlock()
	return func(ctx context.Context, _, to string) (net.Conn, error) {
		n.mu.Lock()
		l, there, silent := n.listeners[to], n.lives[to], n.silent[from] || n.silent[to] || n.deaf[from] || n.deaf[to]
		n.mu.Unlock()
		if l == nil {
			return nil, &net.DNSError{Err: "no such host", Name: to, IsNotFound: true}
		}
		if silent {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		a, b := n.pipe()
		near := &pipeConn{Conn: a, n: n, from: from, to: to}
		far := &pipeConn{Conn: b, n: n, from: to, to: from}
		select {
		case l.accept <- far:
		case <-l.closed:
			_ = errors.Join(a.Close(), b.Close())
			return nil, &net.OpError{Op: "dial", Net: "pipe", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), a.Close(), b.Close())
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.lives[from] != life || n.lives[to] != there {
			return nil, errors.Join(net.ErrClosed, a.Close(), b.Close())
		}
		n.conns[near], n.conns[far] = true, true
		return near, nil
	}
}

// silence cuts an address off, or connects it again. Connections stay open on both sides, which hear nothing; those on which
// something was lost meanwhile end when the address is connected again, for nothing gets lost in the middle of one.
func (n *network) silence(address string, silent bool) { n.cut(n.silent, address, silent) }

// deafen is silence for what is on its way to the address only.
func (n *network) deafen(address string, deaf bool) { n.cut(n.deaf, address, deaf) }

func (n *network) cut(which map[string]bool, address string, off bool) {
	n.mu.Lock()
	which[address] = off
	var broken []*pipeConn
	for c := range n.conns {
		if !off && c.lost && (c.from == address || c.to == address) {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		c.Close()
	}
}

// hangUp ends everything at an address, as the end of a process does.
func (n *network) hangUp(address string) {
	n.mu.Lock()
	l := n.listeners[address]
	n.lives[address]++
	var open []*pipeConn
	for c := range n.conns {
		if c.from == address || c.to == address {
			open = append(open, c)
		}
	}
	n.mu.Unlock()
	l.close()
	for _, c := range open {
		c.Close()
	}
}

type pipeListener struct {
	address string
	accept  chan net.Conn
	closed  chan struct{}
	close   func()
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error { l.close(); return nil }

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.address) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// pipeConn is one end of a connection. What is written while an end is silent is lost.
type pipeConn struct {
	net.Conn
	n        *network
	from, to string
	lost     bool // something that was written; guarded by n.mu
}

// Write implements net.Conn.
func (c *pipeConn) Write(b []byte) (int, error) {
	c.n.mu.Lock()
	lost := c.n.silent[c.from] || c.n.silent[c.to] || c.n.deaf[c.to]
	c.lost = c.lost || lost
	c.n.mu.Unlock()
	if lost {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *pipeConn) Close() error {
	c.n.mu.Lock()
	delete(c.n.conns, c)
	c.n.mu.Unlock()
	return c.Conn.Close()
}

// LocalAddr implements net.Conn.
func (c *pipeConn) LocalAddr() net.Addr { return pipeAddr(c.from) }

// RemoteAddr implements net.Conn.
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr(c.to) }

// pipe is both ends of a connection on which everything takes the network's delay.
func (n *network) pipe() (a, b net.Conn) {
	a, b = net.Pipe()
	if n.delay == 0 {
		return a, b
	}
	return newSlowConn(a, n.delay), newSlowConn(b, n.delay)
}

// slowConn writes later. Whoever writes does not wait: a goroutine that held a lock meanwhile would stop the time of a bubble.
type slowConn struct {
	net.Conn
	delay  time.Duration
	way    chan parcel
	closed chan struct{}
	close  func() error
}

type parcel struct {
	due  time.Time
	data []byte
}

func newSlowConn(inner net.Conn, delay time.Duration) *slowConn {
	c := &slowConn{Conn: inner, delay: delay, way: make(chan parcel, 4096), closed: make(chan struct{})}
	c.close = sync.OnceValue(func() error { close(c.closed); return inner.Close() })
	go c.deliver()
	return c
}

func (c *slowConn) deliver() {
	for {
		select {
		case p := <-c.way:
			select {
			case <-time.After(time.Until(p.due)):
			case <-c.closed: // a bubble whose test has ended has no time to wait for
				return
			}
			if _, err := c.Conn.Write(p.data); err != nil {
				_ = c.close() // the other end is gone
				return
			}
		case <-c.closed:
			return
		}
	}
}

// Write implements net.Conn.
func (c *slowConn) Write(b []byte) (int, error) {
	select {
	case c.way <- parcel{time.Now().Add(c.delay), bytes.Clone(b)}:
		return len(b), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

// Close implements net.Conn.
func (c *slowConn) Close() error { return c.close() }

// SetDeadline implements net.Conn. There is none for writing, which does not wait.
func (c *slowConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *slowConn) SetWriteDeadline(time.Time) error { return nil }

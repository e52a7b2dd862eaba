package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// One port speaks two protocols: a connection that opens with the preface of HTTP/2 is gRPC's, any other is HTTP/1. The
// first bytes are read, looked at and handed on with the connection.

// preface is how a connection of HTTP/2 begins. No HTTP/1 request does.
const preface = "PRI "

// prefaceTimeout is how long a new connection may say nothing. It is gRPC's own bound for the handshake.
const prefaceTimeout = 2 * time.Minute

// split accepts connections of l until ctx ends and gives each to one of the two listeners it returns.
type split struct {
	from net.Listener
	log  *slog.Logger
	grpc *handed
	http *handed
	wg   sync.WaitGroup // connections that have said nothing yet
}

func newSplit(l net.Listener, log *slog.Logger) *split {
	return &split{from: l, log: log, grpc: newHanded(l.Addr()), http: newHanded(l.Addr())}
}

// acceptPause is the rest after a connection could not be accepted. Most often there are too many: it gives them time to
// end.
const acceptPause = 100 * time.Millisecond

// run accepts until ctx ends or the listener is closed. No client can end it: one that goes away too early, or too many
// that stay, are no reason to stop the member.
func (s *split) run(ctx context.Context) error {
	defer s.wg.Wait()
	for ctx.Err() == nil {
		c, err := s.from.Accept()
		switch {
		case err == nil:
			s.wg.Go(func() { s.hand(ctx, c) })
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return nil
		default:
			s.log.Warn("could not accept a connection; it is tried again", "address", s.from.Addr().String(), "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// hand finds out what c speaks and passes it on.
func (s *split) hand(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { c.Close() }) // who says nothing is not waited for
	first := make([]byte, len(preface))
	c.SetReadDeadline(time.Now().Add(prefaceTimeout))
	n, err := io.ReadFull(c, first)
	c.SetReadDeadline(time.Time{})
	if !stop() || (err != nil && n == 0) {
		c.Close()
		return
	}
	to := s.http
	if string(first[:n]) == preface {
		to = s.grpc
	}
	to.put(ctx, &begun{Conn: c, first: first[:n]})
}

// begun is a connection of which the first bytes have been read.
type begun struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// handed is a listener whose connections come from elsewhere in the process.
type handed struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newHanded(addr net.Addr) *handed {
	return &handed{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// put gives c to whoever accepts, or closes it if nobody does any more.
func (h *handed) put(ctx context.Context, c net.Conn) {
	select {
	case h.conns <- c:
		return
	case <-h.closed:
	case <-ctx.Done():
	}
	c.Close()
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }

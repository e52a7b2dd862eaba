package port

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"holdfast/tlsconf"
)

// The first bytes of a connection tell TLS from plaintext, and in plaintext the preface of
// HTTP/2, which is gRPC's, from HTTP/1. Within TLS the two sides agree on the version of HTTP, and a connection of HTTP/2 is
// asked for its first request (greet.go). What was read to find out is handed on with the connection.

// preface is how a connection of HTTP/2 begins. No HTTP/1 request does.
const preface = "PRI "

// recordTLS is the first byte of a connection that begins with a handshake of TLS. No request begins with it.
const recordTLS = 0x16

// prefaceTimeout is how long a new connection may say nothing. It is gRPC's own bound for the handshake.
const prefaceTimeout = 2 * time.Minute

// Door is a place where others connect, and what is spoken there.
type Door struct {
	net.Listener
	// TLS is the side that is shown there; nil: plaintext.
	TLS *tlsconf.Side
	// Plain is for doors where both are spoken.
	Plain bool
	// AtAddress refuses certificates that are not for the address they come from.
	AtAddress bool
}

// split accepts connections at a door until ctx ends and gives each to one of the two listeners it returns.
type split struct {
	from Door
	// httpOnly gives everything to http.
	httpOnly   bool
	streamsMax uint32
	log        *slog.Logger
	grpc       *handed
	http       *handed
	wg         sync.WaitGroup // connections that are not handed on yet
}

func (p *Port) newSplit(from Door) *split {
	return &split{
		from: from, httpOnly: p.cfg.GRPC == nil, streamsMax: p.cfg.StreamsMax, log: p.cfg.Log,
		grpc: newHanded(from.Addr()), http: newHanded(from.Addr()),
	}
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
	to, ready, err := s.sort(ctx, c)
	if !stop() || err != nil {
		c.Close()
		return
	}
	to.put(ctx, ready)
}

// sort returns a connection as it is to be handed on, and to whom. After an error nobody wants it.
func (s *split) sort(ctx context.Context, c net.Conn) (*handed, net.Conn, error) {
	if s.from.TLS != nil && !s.from.Plain {
		return s.sortTLS(ctx, c)
	}
	if s.from.TLS == nil && s.httpOnly {
		return s.http, c, nil
	}
	first := make([]byte, len(preface))
	c.SetReadDeadline(time.Now().Add(prefaceTimeout))
	n, err := io.ReadFull(c, first)
	c.SetReadDeadline(time.Time{})
	if err != nil && n == 0 {
		return nil, nil, err
	}
	again := &begun{Conn: c, first: first[:n]}
	switch {
	case s.from.TLS != nil && first[0] == recordTLS:
		return s.sortTLS(ctx, again)
	case string(first[:n]) == preface && !s.httpOnly:
		return s.grpc, again, nil
	}
	return s.http, again, nil
}

func (s *split) sortTLS(ctx context.Context, c net.Conn) (*handed, net.Conn, error) {
	secure, err := s.from.TLS.Handshake(ctx, c, s.from.AtAddress)
	if err != nil {
		return nil, nil, err
	}
	state := secure.ConnectionState()
	if s.httpOnly || state.NegotiatedProtocol != "h2" {
		return s.http, secure, nil
	}
	g, err := greet(secure, s.streamsMax)
	if err != nil {
		return nil, nil, err
	}
	if g.state = state; g.grpc {
		return s.grpc, g, nil
	}
	return s.http, g, nil
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

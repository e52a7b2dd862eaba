package tlsconf

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

const (
	// handshakeTimeout bounds a handshake from the first byte to the last. etcd's number.
	handshakeTimeout = 10 * time.Second
	// handshakesMax bounds the handshakes that have begun and are not done: about 15 KB each, so 60 MB while strangers hold
	// as many as they can. Beyond it those that have waited longest for their other side make room, if that was stallMin.
	handshakesMax = 4096
	// stallMin is from when on a handshake that waits for its other side may have to make room. Those who mean it answer sooner, so a
	// crowd of them may exceed the bound by as many as come in this time.
	stallMin = time.Second
)

// ErrCrowded says that a handshake was ended because too many others had begun.
var ErrCrowded = errors.New("too many handshakes at once, and this one waited longest for its other side")

// handshakesAtOnce is how many handshakes compute at a time: half the processors, so that those who connect, however many, leave
// the other half to those who are served.
func handshakesAtOnce() int { return (runtime.GOMAXPROCS(0) + 1) / 2 }

// gate bounds what handshakes take together.
type gate struct {
	slots chan struct{} // one for each handshake that computes; none while it waits for its other side
	now   func() time.Time
	max   int

	mu      sync.Mutex // guards the fields below
	begun   int
	waiting *list.List // of *paced, in the order in which they began to wait for the other side
}

func newGate(most int) *gate {
	return &gate{slots: make(chan struct{}, handshakesAtOnce()), now: time.Now, max: most, waiting: list.New()}
}

// enter counts one more handshake.
func (g *gate) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun++
	g.trim()
}

// trim ends the handshakes that are too many, as far as they have waited for their other side. g.mu is held.
func (g *gate) trim() {
	for first := g.waiting.Front(); first != nil && g.begun > g.max; first = g.waiting.Front() {
		p := first.Value.(*paced)
		if g.now().Sub(p.since) < stallMin {
			return
		}
		g.waiting.Remove(first)
		p.place, p.crowded = nil, true
		g.begun--
		p.Conn.Close() // ends its Read
	}
}

func (g *gate) leave(p *paced) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !p.crowded {
		g.begun--
	}
}

// paced is a connection during its handshake: it holds a slot except while it waits for bytes.
type paced struct {
	net.Conn
	gate  *gate
	end   <-chan struct{} // when the handshake has taken too long
	holds bool            // a slot
	done  bool            // the handshake is over; set before anybody else gets the connection

	place   *list.Element // in gate.waiting; guarded by gate.mu
	since   time.Time     // when it began to wait; guarded by gate.mu
	crowded bool          // closed to make room; guarded by gate.mu
}

func (p *paced) acquire() error {
	select {
	case p.gate.slots <- struct{}{}:
		p.holds = true
		return nil
	case <-p.end:
		return os.ErrDeadlineExceeded
	}
}

func (p *paced) release() {
	if p.holds {
		<-p.gate.slots
		p.holds = false
	}
}

// Read implements net.Conn.
func (p *paced) Read(b []byte) (int, error) {
	if p.done {
		return p.Conn.Read(b)
	}
	p.release()
	p.wait()
	n, err := p.Conn.Read(b)
	if p.woke() {
		return n, ErrCrowded
	}
	if acquired := p.acquire(); err == nil {
		err = acquired
	}
	return n, err
}

func (p *paced) wait() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.place, p.since = p.gate.waiting.PushBack(p), p.gate.now()
	p.gate.trim()
}

func (p *paced) woke() (crowded bool) {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.place != nil {
		p.gate.waiting.Remove(p.place)
		p.place = nil
	}
	return p.crowded
}

// Handshake does the server's part of a handshake on c and returns the connection, or closes c. Unless
// the side skips that, atAddress asks for a certificate, if one is shown, that is for the address it comes from. Who wants to
// end it earlier than after handshakeTimeout closes c.
func (s *Side) Handshake(ctx context.Context, c net.Conn, atAddress bool) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	p := &paced{Conn: c, gate: s.gate, end: ctx.Done()}
	s.gate.enter()
	defer s.gate.leave(p)
	conn := tls.Server(p, s.outer)
	err := s.shake(ctx, p, conn, atAddress)
	if err == nil {
		return conn, nil
	}
	s.failures.Add(1)
	s.logFailure(conn, err)
	if plain := new(tls.RecordHeaderError); errors.As(err, plain) && plain.Conn != nil && looksLikeHTTP(plain.RecordHeader) {
		_, told := io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n") // net/http's words
		err = errors.Join(err, told)
	}
	return nil, errors.Join(err, c.Close())
}

// looksLikeHTTP tells whether what should have been a record of TLS is the beginning of a request.
func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET":
		return true
	}
	return false
}

func (s *Side) shake(ctx context.Context, p *paced, conn *tls.Conn, atAddress bool) error {
	deadline, _ := ctx.Deadline()
	if err := p.Conn.SetDeadline(deadline); err != nil {
		return err
	}
	err := p.acquire()
	if err == nil {
		err = conn.Handshake()
	}
	p.release()
	p.done = true
	if err != nil {
		return err
	}
	if err := p.Conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	shown := conn.ConnectionState().PeerCertificates
	if !atAddress || s.cfg.SkipClientSANVerify || len(shown) == 0 {
		return nil
	}
	return checkAddress(ctx, net.DefaultResolver, shown[0], p.Conn.RemoteAddr())
}

// logFailure says, in etcd's words, who was turned away and why. Who just went away is not worth a warning.
func (s *Side) logFailure(conn *tls.Conn, err error) {
	level := slog.LevelWarn
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		level = slog.LevelDebug
	}
	if level > slog.LevelDebug && !s.quiet.Say() {
		return
	}
	side := "client"
	if s.cfg.Flag != "" {
		side = "peer"
	}
	state := conn.ConnectionState()
	attrs := []slog.Attr{slog.String("remote-addr", conn.RemoteAddr().String()), slog.String("server-name", state.ServerName)}
	if len(state.PeerCertificates) > 0 {
		cert := state.PeerCertificates[0]
		attrs = append(attrs, slog.String("ip-addresses", fmt.Sprint(cert.IPAddresses)), slog.Any("dns-names", cert.DNSNames))
	}
	s.cfg.Log.LogAttrs(context.Background(), level, "rejected connection on "+side+" endpoint", append(attrs, slog.String("error", err.Error()))...)
}

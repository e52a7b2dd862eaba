// Package port is where others connect: one port speaks gRPC, HTTP/1 and HTTP/2, with TLS and without. It finds out what a connection
// speaks and gives it to one of two servers.
//
//	Source   RFC 9113 (HTTP/2), sections 3.3, 3.4 and 6.5; gRPC over HTTP/2 for the content type
package port

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// HeaderBytesMax bounds the headers of a call or request, which are kept while they come in: a connection takes no more than that before
// anything is known of who opened it. A token signed with a large key is a few KiB.
const HeaderBytesMax = 256 << 10

// headerTimeout bounds how long an HTTP client may take for the head of its request.
const headerTimeout = 30 * time.Second

// idleTimeout ends connections of HTTP clients that ask nothing more. Go's and curl's clients let go of theirs earlier.
const idleTimeout = 2 * time.Minute

// StopTimeout is how long what is under way may take to end when a port is shut down; it is then cut.
const StopTimeout = 2 * time.Second

// Config says who serves what comes through the doors of a port.
type Config struct {
	// GRPC serves calls; it must be made with Credentials. nil: there are none, everything is HTTP.
	GRPC *grpc.Server
	// HTTP serves requests; nil ends their connections.
	HTTP http.Handler
	// StreamsMax is what GRPC was given as a bound of the calls of one connection; 0 is none.
	StreamsMax uint32
	Log        *slog.Logger
}

// Port serves what comes through its doors.
type Port struct {
	cfg  Config
	http *http.Server
}

// New makes a port without doors.
func New(cfg Config) *Port {
	p := &Port{cfg: cfg}
	h := cfg.HTTP
	if h == nil {
		h = http.HandlerFunc(hangUp)
	}
	if cfg.GRPC == nil {
		p.http = p.newHTTP(h)
	} else {
		p.http = p.newShared(h)
	}
	return p
}

// hangUp ends the connection of whoever asks where nothing is to be had.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Open serves what comes through d in goroutines of g, until ctx ends or d is closed. They end after ShutDown or Close, and what
// stops cfg.GRPC.
func (p *Port) Open(ctx context.Context, g *errgroup.Group, d Door) {
	s := p.newSplit(d)
	g.Go(func() error { return s.run(ctx) })
	g.Go(func() error { return serveHTTP(p.http, s.http) })
	if p.cfg.GRPC != nil {
		g.Go(func() error { return ServeGRPC(p.cfg.GRPC, s.grpc) })
	}
}

// Serve serves what comes through d until ctx ends, and closes it. What is under way is cut then, at all doors.
func (p *Port) Serve(ctx context.Context, d Door) error {
	g, serving := errgroup.WithContext(ctx)
	p.Open(serving, g, d)
	g.Go(func() error {
		<-serving.Done()
		err := CloseDoors([]Door{d})
		if p.cfg.GRPC != nil {
			p.cfg.GRPC.Stop()
		}
		return errors.Join(err, p.http.Close())
	})
	return g.Wait()
}

// ShutDown lets HTTP requests under way end, and cuts those that do not. Calls are the business of who made the gRPC server.
func (p *Port) ShutDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), StopTimeout)
	defer cancel()
	if p.http.Shutdown(ctx) != nil {
		return p.http.Close()
	}
	return nil
}

// newHTTP makes a server that says what it has to say in our log.
func (p *Port) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: HeaderBytesMax,
		ErrorLog: slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelWarn),
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: int(min(cmp.Or(p.cfg.StreamsMax, math.MaxInt32), math.MaxInt32))}, // as etcd
	}
}

// newShared makes the server for HTTP on a door that it shares with gRPC. Connections of HTTP/2 in TLS come to it as if there were
// none, because something has been read from them; a call of gRPC among what is asked there is answered, too.
func (p *Port) newShared(h http.Handler) *http.Server {
	s := p.newHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if state, ok := r.Context().Value(greetedKey{}).(*tls.ConnectionState); ok {
			r.TLS = state
		}
		if r.ProtoMajor == 2 && isGRPC(r.Header.Get("Content-Type")) {
			p.cfg.GRPC.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		g, ok := c.(*greeted)
		if !ok {
			return ctx
		}
		return context.WithValue(ctx, greetedKey{}, &g.state)
	}
	return s
}

// CloseDoors ends the accepting of connections.
func CloseDoors(groups ...[]Door) error {
	var errs []error
	for _, group := range groups {
		for _, d := range group {
			if err := d.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// ServeGRPC serves calls that come to l until s is stopped.
func ServeGRPC(s *grpc.Server, l net.Listener) error {
	if err := s.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

func serveHTTP(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

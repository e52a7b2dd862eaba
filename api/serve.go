package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"holdfast/api/gateway"
)

// headerTimeout bounds how long an HTTP client may take for the head of its request.
const headerTimeout = 30 * time.Second

// idleTimeout ends connections of HTTP clients that ask nothing more. Go's and curl's clients let go of theirs earlier.
const idleTimeout = 2 * time.Minute

// stopTimeout is how long calls under way may take to end when the member stops; streams are then cut.
const stopTimeout = 2 * time.Second

// Listeners are where clients connect. The API closes them.
type Listeners struct {
	// Clients carry gRPC and HTTP on one port.
	Clients []Door
	// HTTP carries HTTP only. With it given, Clients carry gRPC only.
	HTTP []Door
	// Memory carries gRPC only, from within the process.
	Memory []net.Listener
}

// Run serves until ctx ends, then lets calls under way end. It can be called once.
func (a *API) Run(ctx context.Context, at Listeners) error {
	handler, endJSON := a.handler(nil), func() error { return nil }
	if a.cfg.Gateway {
		json, err := gateway.New(gateway.Config{
			MessageBytesMax: a.cfg.RequestBytesMax + requestExtra, BodyBytes: a.cfg.BodyBytes, SocketOrigin: a.socketOrigin,
		})
		if err != nil {
			return err
		}
		at.Memory = append(slices.Clone(at.Memory), json.Calls())
		handler, endJSON = a.handler(json), json.Close
	}
	full, shared := a.newHTTP(handler), a.newShared(handler)
	if len(at.HTTP) > 0 {
		shared = a.newShared(http.HandlerFunc(hangUp))
	}
	g, serving := errgroup.WithContext(ctx)
	for _, d := range at.Clients {
		s := a.newSplit(d)
		g.Go(func() error { return s.run(serving) })
		g.Go(func() error { return a.serveGRPC(s.grpc) })
		g.Go(func() error { return serveHTTP(shared, s.http) })
	}
	for _, l := range at.Memory {
		g.Go(func() error { return a.serveGRPC(l) })
	}
	for _, d := range at.HTTP {
		a.serveDoor(serving, g, full, d)
	}
	g.Go(func() error { return a.watchLeader(serving) })
	g.Go(func() error { return a.cfg.Logins.Run(serving) })
	g.Go(func() error { return a.answers.tend(serving) })
	g.Go(func() error {
		<-serving.Done()
		return a.stop(at, endJSON, full, shared)
	})
	return g.Wait()
}

// Constant are the listeners that are served as long as the member lives: from before it is ready for clients, and until it
// has stopped. It needs the other members for both, and who watches over it wants to see both. The API closes them.
type Constant struct {
	// Peers carry what members and tools ask of each other over HTTP, Metrics health and metrics.
	Peers, Metrics []Door
}

// RunConstant serves until ctx ends, beside Run.
func (a *API) RunConstant(ctx context.Context, at Constant) error {
	peers, metrics := a.newHTTP(a.peerHandler()), a.newHTTP(a.metricsHandler())
	g, serving := errgroup.WithContext(ctx)
	for _, d := range at.Peers {
		a.serveDoor(serving, g, peers, d)
	}
	for _, d := range at.Metrics {
		a.serveDoor(serving, g, metrics, d)
	}
	g.Go(func() error {
		<-serving.Done()
		return errors.Join(closeDoors(at.Peers, at.Metrics), shutDown(metrics), shutDown(peers))
	})
	return g.Wait()
}

// serveDoor serves HTTP alone.
func (a *API) serveDoor(ctx context.Context, g *errgroup.Group, h *http.Server, d Door) {
	s := a.newSplit(d)
	s.httpOnly = true
	g.Go(func() error { return s.run(ctx) })
	g.Go(func() error { return serveHTTP(h, s.http) })
}

// closeDoors ends the accepting of connections.
func closeDoors(groups ...[]Door) error {
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

// newHTTP makes a server that says what it has to say in the member's log.
func (a *API) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytesMax,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: int(min(cmp.Or(a.cfg.StreamsMax, math.MaxInt32), math.MaxInt32))}, // as etcd
	}
}

// newShared makes the server for HTTP on a door that it shares with gRPC. Connections of HTTP/2 in TLS come to it as if there were
// none, because something has been read from them; a call of gRPC among what is asked there is answered, too.
func (a *API) newShared(h http.Handler) *http.Server {
	s := a.newHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if state, ok := r.Context().Value(greetedKey{}).(*tls.ConnectionState); ok {
			r.TLS = state
		}
		if r.ProtoMajor == 2 && isGRPC(r.Header.Get("Content-Type")) {
			a.grpc.ServeHTTP(w, r)
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

// hangUp ends the connection of whoever asks where nothing is to be had.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func (a *API) serveGRPC(l net.Listener) error {
	if err := a.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
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

// stop ends everything: no new connections, then streams, then the calls under way, then what is left. HTTP and gRPC end side by
// side: requests in JSON are calls, too.
func (a *API) stop(at Listeners, endJSON func() error, servers ...*http.Server) error {
	errs := []error{closeDoors(at.Clients, at.HTTP)}
	close(a.stopping)
	var down errgroup.Group
	for _, s := range servers {
		down.Go(func() error { return shutDown(s) })
	}
	cut := time.AfterFunc(stopTimeout, func() {
		a.answers.giveUp() // who waits for room would hold its connection open
		a.grpc.Stop()
	})
	defer cut.Stop()
	a.grpc.GracefulStop()
	a.answers.close()
	return errors.Join(append(errs, down.Wait(), endJSON())...)
}

// shutDown lets requests under way end, and cuts those that do not.
func shutDown(s *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		return s.Close()
	}
	return nil
}

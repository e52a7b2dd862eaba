package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
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
	Clients []net.Listener
	// HTTP carries HTTP only. With it given, Clients still answer both.
	HTTP []net.Listener
	// Memory carries gRPC only, from within the process.
	Memory []net.Listener
}

// Run serves until ctx ends, then lets calls under way end. It can be called once.
func (a *API) Run(ctx context.Context, at Listeners) error {
	var json *gateway
	if a.cfg.Gateway {
		var err error
		if json, err = a.newGateway(); err != nil {
			return err
		}
		at.Memory = append(slices.Clone(at.Memory), json.within)
	}
	full := a.newHTTP(a.handler(json))
	g, serving := errgroup.WithContext(ctx)
	for _, l := range at.Clients {
		s := newSplit(l, a.log)
		g.Go(func() error { return s.run(serving) })
		g.Go(func() error { return a.serveGRPC(s.grpc) })
		g.Go(func() error { return serveHTTP(full, s.http) })
	}
	for _, l := range at.Memory {
		g.Go(func() error { return a.serveGRPC(l) })
	}
	for _, l := range at.HTTP {
		g.Go(func() error { return serveHTTP(full, l) })
	}
	g.Go(func() error { return a.watchLeader(serving) })
	g.Go(func() error { return a.cfg.Logins.Run(serving) })
	g.Go(func() error {
		<-serving.Done()
		return a.stop(at.Clients, json, full)
	})
	return g.Wait()
}

// Constant are the listeners that are served as long as the member lives: from before it is ready for clients, and until it
// has stopped. It needs the other members for both, and who watches over it wants to see both. The API closes them.
type Constant struct {
	// Peers carry what members and tools ask of each other over HTTP, Metrics health and metrics.
	Peers, Metrics []net.Listener
}

// RunConstant serves until ctx ends, beside Run.
func (a *API) RunConstant(ctx context.Context, at Constant) error {
	peers, metrics := a.newHTTP(a.peerHandler()), a.newHTTP(a.metricsHandler())
	g, serving := errgroup.WithContext(ctx)
	for _, l := range at.Peers {
		g.Go(func() error { return serveHTTP(peers, l) })
	}
	for _, l := range at.Metrics {
		g.Go(func() error { return serveHTTP(metrics, l) })
	}
	g.Go(func() error {
		<-serving.Done()
		return errors.Join(shutDown(metrics), shutDown(peers))
	})
	return g.Wait()
}

// newHTTP makes a server that says what it has to say in the member's log.
func (a *API) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
}

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
func (a *API) stop(clients []net.Listener, json *gateway, full *http.Server) error {
	var errs []error
	for _, l := range clients {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	close(a.stopping)
	down := make(chan error)
	go func() { down <- shutDown(full) }()
	cut := time.AfterFunc(stopTimeout, a.grpc.Stop)
	defer cut.Stop()
	a.grpc.GracefulStop()
	return errors.Join(append(errs, <-down, json.close())...)
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

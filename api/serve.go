package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"holdfast/api/gateway"
	"holdfast/api/port"
)

// Listeners are where clients connect. The API closes them.
type Listeners struct {
	// Clients carry gRPC and HTTP on one port.
	Clients []port.Door
	// HTTP carries HTTP only. With it given, Clients carry gRPC only.
	HTTP []port.Door
	// Memory carries gRPC only, from within the process.
	Memory []net.Listener
}

// Run serves until ctx ends, then lets calls under way end. It can be called once.
func (a *API) Run(ctx context.Context, at Listeners) error {
	handler, endJSON := a.handler(nil), func() error { return nil }
	if a.cfg.Gateway {
		json, err := gateway.New(gateway.Config{
			MessageBytesMax: a.cfg.RequestBytesMax + requestExtra, BodyBytes: a.cfg.BodyBytes, Range: a.rangeInProcess,
			SocketOrigin: a.web.SocketOrigin,
		})
		if err != nil {
			return err
		}
		at.Memory = append(slices.Clone(at.Memory), json.Calls())
		handler, endJSON = a.handler(json), json.Close
	}
	full, shared := a.newPort(nil, handler), a.newPort(a.grpc, handler)
	if len(at.HTTP) > 0 {
		shared = a.newPort(a.grpc, nil)
	}
	g, serving := errgroup.WithContext(ctx)
	for _, d := range at.Clients {
		shared.Open(serving, g, d)
	}
	for _, l := range at.Memory {
		g.Go(func() error { return port.ServeGRPC(a.grpc, l) })
	}
	for _, d := range at.HTTP {
		full.Open(serving, g, d)
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

// handler serves what clients ask over HTTP. json serves the API as JSON; nil is nobody.
func (a *API) handler(json http.Handler) http.Handler {
	if json != nil {
		json = a.refuseNames(json)
	}
	return a.web.Clients(json)
}

// newPort makes a port for calls, which may be nobody's business there, and requests.
func (a *API) newPort(calls *grpc.Server, requests http.Handler) *port.Port {
	return port.New(port.Config{GRPC: calls, HTTP: requests, StreamsMax: a.cfg.StreamsMax, Log: a.log})
}

// Constant are the listeners that are served as long as the member lives: from before it is ready for clients, and until it
// has stopped. It needs the other members for both, and who watches over it wants to see both. The API closes them.
type Constant struct {
	// Peers carry what members and tools ask of each other over HTTP, Metrics health and metrics.
	Peers, Metrics []port.Door
}

// RunConstant serves until ctx ends, beside Run.
func (a *API) RunConstant(ctx context.Context, at Constant) error {
	peers, metrics := a.newPort(nil, a.web.Peers()), a.newPort(nil, a.web.Metrics())
	g, serving := errgroup.WithContext(ctx)
	for _, d := range at.Peers {
		peers.Open(serving, g, d)
	}
	for _, d := range at.Metrics {
		metrics.Open(serving, g, d)
	}
	g.Go(func() error {
		<-serving.Done()
		return errors.Join(port.CloseDoors(at.Peers, at.Metrics), metrics.ShutDown(), peers.ShutDown())
	})
	return g.Wait()
}

// stop ends everything: no new connections, then streams, then the calls under way, then what is left. HTTP and gRPC end side by
// side: requests in JSON are calls, too.
func (a *API) stop(at Listeners, endJSON func() error, ports ...*port.Port) error {
	errs := []error{port.CloseDoors(at.Clients, at.HTTP)}
	close(a.stopping)
	var down errgroup.Group
	for _, p := range ports {
		down.Go(p.ShutDown)
	}
	cut := time.AfterFunc(port.StopTimeout, func() {
		a.answers.giveUp() // who waits for room would hold its connection open
		a.grpc.Stop()
	})
	defer cut.Stop()
	a.grpc.GracefulStop()
	errs = append(errs, down.Wait()) // requests in JSON may still send answers
	a.answers.close()
	return errors.Join(append(errs, endJSON())...)
}

package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Port serves calls and HTTP requests at one place, for programs that are no member.
type Port struct {
	GRPC *grpc.Server // nil: HTTP only; made with PortCredentials
	HTTP http.Handler
	// StreamsMax is what GRPC was given as a bound; 0 is none.
	StreamsMax uint32
	Log        *slog.Logger
}

// PortCredentials are for servers that serve at a Port, with or without TLS.
func PortCredentials() credentials.TransportCredentials { return shownTLS{} }

// Serve serves what comes to d until ctx ends, and closes it. Calls under way are cut then.
func (p *Port) Serve(ctx context.Context, d Door) error {
	a := &API{grpc: p.GRPC, log: p.Log, cfg: Config{StreamsMax: p.StreamsMax}}
	g, serving := errgroup.WithContext(ctx)
	server := a.newHTTP(p.HTTP)
	if p.GRPC == nil {
		a.serveDoor(serving, g, server, d)
	} else {
		server = a.newShared(p.HTTP)
		s := a.newSplit(d)
		g.Go(func() error { return s.run(serving) })
		g.Go(func() error { return a.serveGRPC(s.grpc) })
		g.Go(func() error { return serveHTTP(server, s.http) })
	}
	g.Go(func() error {
		<-serving.Done()
		err := closeDoors([]Door{d})
		if p.GRPC != nil {
			p.GRPC.Stop()
		}
		return errors.Join(err, server.Close())
	})
	return g.Wait()
}

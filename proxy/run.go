package proxy

import (
	"context"
	"net"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/credentials"

	"holdfast/api/port"
	"holdfast/tlsconf"
)

// Listeners are where clients connect. The proxy closes them.
type Listeners struct {
	// Clients speak gRPC and HTTP.
	Clients []port.Door
	// Metrics, if any, speak HTTP: health and metrics.
	Metrics []port.Door
}

// Run serves until ctx ends, and then ends everything. It can be called once.
func (p *Proxy) Run(ctx context.Context, at Listeners) error {
	g, serving := errgroup.WithContext(ctx)
	calls := port.New(port.Config{GRPC: p.grpc, HTTP: p.handler(p.cfg.Profiles), StreamsMax: p.cfg.StreamsMax, Log: p.log})
	for _, d := range at.Clients {
		g.Go(func() error { return calls.Serve(serving, d) })
	}
	metrics := port.New(port.Config{HTTP: p.handler(false), Log: p.log})
	for _, d := range at.Metrics {
		g.Go(func() error { return metrics.Serve(serving, d) })
	}
	for side := range p.sides(at) {
		g.Go(func() error { return side.Run(serving) }) // says what is wrong with its files, and what ends soon
	}
	if p.cfg.ResolverPrefix != "" {
		g.Go(func() error {
			p.again(serving, "failed to create a session", p.register)
			return nil
		})
		g.Go(func() error {
			p.again(serving, "failed to establish endpoint watch", p.follow)
			return nil
		})
	}
	g.Go(func() error {
		<-serving.Done()
		p.cancel() // ends the streams
		return nil
	})
	err := g.Wait()
	p.close()
	return err
}

// sides are what is shown to clients and members, each once.
func (p *Proxy) sides(at Listeners) map[*tlsconf.Side]bool {
	all := map[*tlsconf.Side]bool{}
	if p.cfg.TLS != nil {
		all[p.cfg.TLS] = true
	}
	for _, d := range slices.Concat(at.Clients, at.Metrics) {
		if d.TLS != nil {
			all[d.TLS] = true
		}
	}
	return all
}

// sideCredentials shows a side to members, as its files are when a connection is made.
type sideCredentials struct {
	side                             *tlsconf.Side
	credentials.TransportCredentials // for what does not depend on the files
}

func newSideCredentials(side *tlsconf.Side) credentials.TransportCredentials {
	return sideCredentials{side, credentials.NewTLS(nil)}
}

// ClientHandshake implements credentials.TransportCredentials.
func (c sideCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	return credentials.NewTLS(c.side.Client(host)).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (c sideCredentials) Clone() credentials.TransportCredentials { return newSideCredentials(c.side) }

// Package node is a member with its doors: the listeners, the protocol on them, and the member behind.
//
//	Errors  those of opening the member, and of listening, each naming the address
package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/test/bufconn"

	"holdfast/api"
	"holdfast/api/port"
	"holdfast/login"
	"holdfast/metrics"
	"holdfast/server"
	"holdfast/tlsconf"
)

// Config is what a node is made of.
type Config struct {
	Server server.Config
	// Bootstrap completes Server for a member that has no data yet: what it founds, or joins. It is called once the addresses
	// are taken, and may wait for other members. nil: Server says it already.
	Bootstrap func(ctx context.Context, cfg *server.Config) error
	API       api.Config
	// Login says how users log in; it needs no Log of its own.
	Login login.Config
	// Metrics is what the member shows; nil is a set of its own.
	Metrics *metrics.Set
	// ClientURLs are where clients connect, HTTPURLs and MetricsURLs where HTTP is served by itself, PeerURLs where members do.
	// Where the same address stands twice, as http and https for example, both are spoken there.
	ClientURLs, HTTPURLs, MetricsURLs, PeerURLs []url.URL
	// ClientTLS is for all but PeerURLs, PeerTLS for those; nil: none. The node looks after them while it runs.
	ClientTLS, PeerTLS *tlsconf.Side
	// ReusePort and ReuseAddress let other processes listen on the same address, at once or right after.
	ReusePort, ReuseAddress bool
	Log                     *slog.Logger
}

// memoryBuffer is how much one side of a connection within the process may be ahead of the other.
const memoryBuffer = 256 << 10

// Node is a member with its doors open. It answers once Run runs.
type Node struct {
	cfg      Config
	member   *server.Server
	api      *api.API
	at       api.Listeners
	constant api.Constant
	memory   *bufconn.Listener
}

// Open takes the addresses and opens the member. The addresses come first: a port that is taken is found before any data
// is touched. The end of ctx ends the wait for other members.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	set := cfg.Metrics
	if set == nil {
		set = metrics.New(metrics.Config{})
	}
	cfg.Server.Metrics, cfg.API.Metrics = set, set
	n := &Node{cfg: cfg, memory: bufconn.Listen(memoryBuffer)}
	n.at.Memory = []net.Listener{n.memory}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.closeListeners())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	n.cfg.Login.Log = n.cfg.Log
	logins, err := login.New(n.cfg.Login)
	if err != nil {
		return err
	}
	n.cfg.Server.Tokens, n.cfg.API.Logins = logins, logins
	if err := n.listen(); err != nil {
		return err
	}
	hasData, err := n.cfg.Server.HasData()
	if err != nil {
		return err
	}
	lobby := openLobby(n.constant.Peers, hasData)
	if !hasData && n.cfg.Bootstrap != nil {
		err = n.cfg.Bootstrap(ctx, &n.cfg.Server)
	}
	var member *server.Server
	if err == nil {
		member, err = server.Open(n.cfg.Server)
	}
	if err := errors.Join(err, lobby.close()); err != nil {
		if member != nil {
			err = errors.Join(err, member.Close())
		}
		return err
	}
	n.member, n.api = member, api.New(member, n.cfg.API)
	n.cfg.API.Metrics.Sample(n.sampleTLS)
	return nil
}

// sampleTLS shows what is in force of the files of TLS. Two authorities of one name are shown as the one that ends first.
func (n *Node) sampleTLS(s *metrics.Sample) {
	ends := map[[2]string]time.Time{}
	for name, side := range map[string]*tlsconf.Side{"client": n.cfg.ClientTLS, "peer": n.cfg.PeerTLS} {
		if side == nil {
			continue
		}
		stats := side.Stats()
		s.Set(metrics.TLSReloads, float64(stats.Reloads), name)
		s.Set(metrics.TLSFailures, float64(stats.Failures), name)
		for _, f := range stats.Files {
			key := [2]string{strings.TrimPrefix(f.Flag, "--"), f.Subject}
			if end, shown := ends[key]; !shown || f.End.Before(end) {
				ends[key] = f.End
			}
		}
	}
	for key, end := range ends {
		s.Set(metrics.TLSEnd, float64(end.Unix()), key[0], key[1])
	}
}

// Run serves until ctx ends, which is no error, or a part fails. Other members and
// metrics are served as long as the member lives. The doors for clients open when it is ready, so that nobody is told that there is no leader because there is none yet; until
// then connections wait. They close before the member stops, so that calls under way are still answered. Call Close afterwards.
func (n *Node) Run(ctx context.Context) error {
	g, serving := errgroup.WithContext(ctx)
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g.Go(func() error { return n.member.Run(living) })
	for _, side := range []*tlsconf.Side{n.cfg.ClientTLS, n.cfg.PeerTLS} {
		if side != nil {
			g.Go(func() error { return side.Run(living) })
		}
	}
	g.Go(func() error { return n.api.RunConstant(living, n.constant) })
	g.Go(func() error {
		defer stop()
		select {
		case <-n.member.Ready():
			return n.api.Run(serving, n.at)
		case <-serving.Done():
			return nil
		}
	})
	return g.Wait()
}

// Close lets go of data and addresses. Run must have returned, or never been called.
func (n *Node) Close() error { return errors.Join(n.closeListeners(), n.member.Close()) }

func (n *Node) closeListeners() error {
	errs := []error{n.memory.Close()}
	for _, group := range [][]port.Door{n.at.Clients, n.at.HTTP, n.constant.Metrics, n.constant.Peers} {
		for _, d := range group {
			if err := d.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Member is the member behind the doors.
func (n *Node) Member() *server.Server { return n.member }

// ClientAddrs are the addresses on which clients are served.
func (n *Node) ClientAddrs() []net.Addr {
	addrs := make([]net.Addr, len(n.at.Clients))
	for i, l := range n.at.Clients {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Dial makes a connection within the process.
func (n *Node) Dial(ctx context.Context) (net.Conn, error) { return n.memory.DialContext(ctx) }

// Package holdfast runs a member of a Holdfast cluster inside a Go program: a consistent key-value store that speaks etcd's v3
// protocol. It is the only stable Go API of this module; every other package may change.
package holdfast

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/api"
	"holdfast/login"
	"holdfast/membership"
	"holdfast/node"
	"holdfast/server"
	"holdfast/token"
)

// Config says what to run. The zero value of each field but DataDir is a good choice.
type Config struct {
	// DataDir holds everything the member keeps; it is made if it is not there. Required.
	DataDir string
	// Name is the member's name; empty is "default".
	Name string
	// ListenClient are URLs such as http://127.0.0.1:2379 on which other processes are served. Port 0 takes a free one, see
	// Member.ClientAddrs. None serves only this process, through Member.Conn.
	ListenClient []string
	// Quota bounds the bytes of all revisions that are kept; 0 is 100 GiB, less than 0 no bound.
	Quota int64
	// Log receives what the member has to say; nil discards it.
	Log *slog.Logger
}

// Defaults of Config, and etcd's of what cannot be chosen here.
const (
	defaultName  = "default"
	defaultQuota = 100 << 30

	heartbeat       = 100 * time.Millisecond
	electionTicks   = 10
	snapshotEvery   = 10000
	catchUpEntries  = 5000
	requestBytesMax = 1536 << 10
	txnOpsMax       = 128
	keepAliveMin    = 5 * time.Second
)

// peerURL names the member within its cluster of one. Nothing listens there.
const peerURL = "http://localhost:2380"

func (c *Config) node() (node.Config, error) {
	if c.DataDir == "" {
		return node.Config{}, errors.New("holdfast: Config.DataDir is empty: name a directory for the member's data")
	}
	log, name, quota := c.Log, c.Name, c.Quota
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if name == "" {
		name = defaultName
	}
	if quota == 0 {
		quota = defaultQuota
	}
	cfg := node.Config{Log: log, Login: login.Config{Tokens: token.Options{Kind: token.KindSimple}}}
	for _, text := range c.ListenClient {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return cfg, fmt.Errorf("holdfast: Config.ListenClient: %q is no URL such as http://127.0.0.1:2379", text)
		}
		cfg.ClientURLs = append(cfg.ClientURLs, *u)
	}
	self := membership.Member{ID: membership.MemberID([]string{peerURL}, c.DataDir, 0), Name: name, PeerURLs: []string{peerURL}}
	cfg.Server = server.Config{
		DataDir: c.DataDir, Name: name, ClientURLs: c.ListenClient, Founders: []membership.Member{self},
		Heartbeat: heartbeat, ElectionTicks: electionTicks, PreVote: true,
		SnapshotEvery: snapshotEvery, CatchUpEntries: catchUpEntries,
		Quota: quota, RequestBytesMax: requestBytesMax, LearnersMax: 1, Log: log,
	}
	cfg.API = api.Config{
		RequestBytesMax: requestBytesMax, TxnOpsMax: txnOpsMax, KeepAliveMin: keepAliveMin,
		ElectionTimeout: electionTicks * heartbeat, Log: log,
	}
	return cfg, nil
}

// Member is a running member.
type Member struct {
	node *node.Node
	conn *grpc.ClientConn
	stop context.CancelFunc
	done chan struct{}
	err  error // set before done is closed

	closing sync.Once
	closed  error // of conn, set by closing
}

// Start opens the data directory, or makes it, and runs a member on it. It returns when the member serves, or with the
// reason why it does not; ctx bounds only that wait.
func Start(ctx context.Context, cfg Config) (*Member, error) {
	nodeConfig, err := cfg.node()
	if err != nil {
		return nil, err
	}
	n, err := node.Open(ctx, nodeConfig)
	if err != nil {
		return nil, err
	}
	m := &Member{node: n, done: make(chan struct{})}
	m.conn, err = grpc.NewClient("passthrough:///holdfast",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return n.Dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	running, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() { // ends with Stop, or when the member fails; Done tells
		defer close(m.done)
		m.err = errors.Join(n.Run(running), n.Close())
	}()
	select {
	case <-n.Member().Ready():
		return m, nil
	case <-m.done:
		return nil, errors.Join(m.err, m.conn.Close())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), m.Stop())
	}
}

// Conn is a connection to the member within the process. Clients made from etcd's generated code, and etcd's clientv3, work
// on it. It ends with Stop.
func (m *Member) Conn() grpc.ClientConnInterface { return m.conn }

// ClientAddrs are the addresses on which other processes are served, in the order of Config.ListenClient.
func (m *Member) ClientAddrs() []net.Addr { return m.node.ClientAddrs() }

// Done is closed when the member does not run any more: after Stop, or when its disk fails.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err is why the member does not run any more; nil while it runs and after an orderly Stop.
func (m *Member) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Stop ends the member in good order: what it applied is durable when it returns. It may be called again.
func (m *Member) Stop() error {
	m.stop()
	<-m.done
	m.closing.Do(func() { m.closed = m.conn.Close() })
	return errors.Join(m.err, m.closed)
}

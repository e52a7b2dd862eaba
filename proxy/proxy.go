package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"holdfast/api/port"
	"holdfast/metrics"
	"holdfast/tlsconf"
)

// Config is what a proxy is made of.
type Config struct {
	// Endpoints are the members; SyncInterval is how often they are asked who they are, 0 is never.
	Endpoints    []string
	SyncInterval time.Duration
	// TLS is what is shown to members; nil is plaintext, unless an endpoint says https.
	TLS *tlsconf.Side
	// SendMax and ReceiveMax bound messages to and from members, in bytes; 0 is etcd's client's choice.
	SendMax, ReceiveMax int
	// PingAfter is how long a quiet member is left in peace, 0 for ever; PingTimeout how long it may take to answer; PingIdle
	// asks even if nothing is under way.
	PingAfter, PingTimeout time.Duration
	PingIdle               bool

	// StreamsMax bounds the calls of one client under way at once; 0 is no bound.
	StreamsMax uint32
	// ClientPingMin is the shortest pause between pings that a client may make; ClientPing is how often a quiet client is pinged,
	// and ClientPingTimeout how long it has to answer. 0 leaves gRPC's defaults.
	ClientPingMin, ClientPing, ClientPingTimeout time.Duration

	// Namespace stands before every key at the cluster and before none here.
	Namespace string
	// LeasingPrefix is where the cluster notes which keys this proxy may answer for by itself; empty: none.
	LeasingPrefix string
	// Ordering keeps serializable reads from going back in time when they go to another member.
	Ordering bool
	// Advertise is where clients are told to connect. With ResolverPrefix it is noted at the cluster, for ResolverTTL seconds at a
	// time.
	Advertise      string
	ResolverPrefix string
	ResolverTTL    int

	// LogCalls logs what is asked and answered, without what users and passwords are concerned with.
	LogCalls bool
	// Profiles serves Go's profiles under /debug/pprof/.
	Profiles bool
	// HTTP reaches members for what is not gRPC: /metrics. nil is http.DefaultClient.
	HTTP *http.Client

	Log *slog.Logger // required
}

// Proxy stands between clients and a cluster. It is made by New, and serves by Run.
type Proxy struct {
	cfg     Config
	log     *slog.Logger
	client  *clientv3.Client // its KV, Watcher and Lease know the namespace
	conn    grpc.ClientConnInterface
	kv      clientv3.KV // with leases on keys, if wanted
	direct  clientv3.KV // without
	order   *orderedKV  // below both; nil if not wanted
	grpc    *grpc.Server
	metrics *metrics.Set

	ctx    context.Context // ends when the proxy stops
	cancel context.CancelFunc

	cache    *rangeCache
	hub      *hub
	renewals *renewals
	others   *others
	handlers sync.WaitGroup // goroutines that calls have started
	closers  []func()       // what New has opened, to be closed in reverse order
}

// New prepares a proxy. It connects when there is something to ask, unless Ordering or LeasingPrefix ask something at once.
func New(ctx context.Context, cfg Config) (*Proxy, error) {
	p := &Proxy{cfg: cfg, log: cfg.Log, metrics: metrics.New(metrics.Config{}), cache: newRangeCache(time.Now), renewals: newRenewals()}
	p.ctx, p.cancel = context.WithCancel(ctx)
	if err := p.connect(); err != nil {
		p.close()
		return nil, err
	}
	p.hub = newHub(p.ctx, p.client.Watcher.Watch)
	p.others = newOthers(cfg.Advertise)
	p.grpc = p.newGRPC()
	p.metrics.Sample(p.sample)
	return p, nil
}

// connect makes the client and its layers, in etcd's order: proxies of both kinds share one cluster.
func (p *Proxy) connect() error {
	cfg := clientv3.Config{
		Endpoints: p.cfg.Endpoints, AutoSyncInterval: p.cfg.SyncInterval, DialTimeout: dialTimeout, Context: p.ctx,
		DialKeepAliveTime: p.cfg.PingAfter, DialKeepAliveTimeout: p.cfg.PingTimeout, PermitWithoutStream: p.cfg.PingIdle,
		MaxCallSendMsgSize: p.cfg.SendMax, MaxCallRecvMsgSize: p.cfg.ReceiveMax,
		Logger: zap.NewNop(), // what it says, its errors say too
	}
	if p.cfg.TLS != nil && !strings.HasPrefix(p.cfg.Endpoints[0], "http:") && !strings.HasPrefix(p.cfg.Endpoints[0], "unix:") {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithTransportCredentials(newSideCredentials(p.cfg.TLS)))
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return fmt.Errorf("connect to the cluster: %w", err)
	}
	p.client, p.conn = client, client.ActiveConnection()
	p.closers = append(p.closers, func() {
		if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
			p.log.Warn("could not close the connection to the cluster", "error", err)
		}
	})
	if p.cfg.Ordering {
		p.order = &orderedKV{KV: client.KV, members: client.Endpoints}
		client.KV = p.order
		if err := p.awaitOrder(); err != nil {
			return err
		}
	}
	if p.cfg.Namespace != "" {
		client.KV = namespace.NewKV(client.KV, p.cfg.Namespace)
		client.Watcher = namespace.NewWatcher(client.Watcher, p.cfg.Namespace)
		client.Lease = namespace.NewLease(client.Lease, p.cfg.Namespace)
	}
	p.kv, p.direct = client.KV, client.KV
	if p.cfg.LeasingPrefix != "" {
		leased, stop, err := leasing.NewKV(client, p.cfg.LeasingPrefix)
		p.closers = append(p.closers, stop)
		if err != nil {
			return fmt.Errorf("take leases on keys: %w", err)
		}
		client.KV = leased
		p.kv = &leasedKV{KV: leased, direct: p.direct, admitted: map[string]struct{}{}}
	}
	return nil
}

// dialTimeout bounds what etcd's client does to reach a member for questions of its own. etcd's.
const dialTimeout = 5 * time.Second

// awaitOrder reads once from the cluster: what is read later is not older.
func (p *Proxy) awaitOrder() error {
	p.log.Info("waiting for linearized read from cluster to recover ordering")
	for {
		_, err := p.order.Do(p.ctx, clientv3.OpGet("_", clientv3.WithKeysOnly()))
		if err == nil {
			return nil
		}
		p.log.Warn("ordering recovery failed, retrying in 1s", "error", err)
		select {
		case <-time.After(time.Second):
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
}

// newGRPC makes the server with the services that save something. The rest is forwarded.
func (p *Proxy) newGRPC() *grpc.Server {
	calls := newCallStats(p.metrics)
	unary, stream := []grpc.UnaryServerInterceptor{calls.unary}, []grpc.StreamServerInterceptor{calls.stream}
	if p.cfg.LogCalls {
		unary, stream = append(unary, p.logUnary), append(stream, p.logStream)
	}
	opts := []grpc.ServerOption{
		grpc.Creds(port.Credentials()),
		grpc.ForceServerCodecV2(newCodec()), grpc.UnknownServiceHandler(p.forward), grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: p.cfg.ClientPing, Timeout: p.cfg.ClientPingTimeout}),
	}
	if p.cfg.ClientPingMin > 0 {
		opts = append(opts, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: p.cfg.ClientPingMin}))
	}
	if p.cfg.StreamsMax > 0 {
		opts = append(opts, grpc.MaxConcurrentStreams(p.cfg.StreamsMax))
	}
	s := grpc.NewServer(opts...)
	s.RegisterService(only(pb.KV_ServiceDesc, "Range", "Put", "DeleteRange", "Txn", "Compact"), &kvService{Proxy: p})
	s.RegisterService(only(pb.Watch_ServiceDesc, "Watch"), &watchService{Proxy: p})
	s.RegisterService(only(pb.Lease_ServiceDesc, "LeaseTimeToLive", "LeaseKeepAlive"), &leaseService{Proxy: p})
	s.RegisterService(only(pb.Cluster_ServiceDesc, "MemberList"), &clusterService{Proxy: p})
	return s
}

// close ends what is left. Nothing is served any more.
func (p *Proxy) close() {
	p.cancel()
	p.handlers.Wait()
	if p.hub != nil {
		p.hub.feeds.Wait()
	}
	p.renewals.ended.Wait()
	for i := len(p.closers) - 1; i >= 0; i-- {
		p.closers[i]()
	}
}

// sample shows what was saved.
func (p *Proxy) sample(s *metrics.Sample) {
	cache, hub := p.cache.stats(), p.hub.stats()
	s.Set(metrics.ProxyCacheKeys, float64(cache.entries))
	s.Set(metrics.ProxyCacheHits, float64(cache.hits))
	s.Set(metrics.ProxyCacheMisses, float64(cache.misses))
	s.Set(metrics.ProxyWatchersCoalesced, float64(hub.watchers-hub.feeds))
	s.Set(metrics.ProxyEventsCoalesced, float64(hub.shared))
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/api"
	"holdfast/api/port"
	"holdfast/config"
	"holdfast/login"
	"holdfast/metrics"
	"holdfast/node"
	"holdfast/password"
	"holdfast/server"
	"holdfast/token"
	"holdfast/tracing"
	"holdfast/util/jsonlog"
	"holdfast/util/urllist"
	"holdfast/util/version"
)

// run runs a member. It returns the signal that ended it, if one did.
func run(cfg config.Config, log *slog.Logger, outputs *jsonlog.Outputs, terminal bool) (caught os.Signal, err error) {
	manager := findManager(log)
	defer func() { tellFailure(manager, log, err) }()
	port.LogGRPC(log)
	memory := divideMemory(cfg, log)
	if cfg.MemoryLock {
		if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
			return nil, fmt.Errorf("lock the memory as --memory-mlock asks: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signaled := awaitSignal(cancel, log)
	defer func() { caught = signaled() }()
	settings, err := nodeConfig(cfg, memory, log)
	if err != nil {
		return nil, err
	}
	settings.API.SetLogLevel = func(name string) error {
		level, err := jsonlog.ParseLevel(name)
		if err == nil {
			outputs.SetLevel(level)
		}
		return err
	}
	traces, err := startTracing(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := traces.Close(); err != nil { // no reason for the member to have failed
			log.Warn("could not send all traces", "error", err)
		}
	}()
	settings.Server.Tracing, settings.API.Tracing = traces, traces
	settled, err := settings.Server.HasData()
	if err != nil {
		return nil, err
	}
	tellLimits(log)
	log.LogAttrs(ctx, slog.LevelInfo, "starting Holdfast", slog.String("holdfast-version", version.Holdfast()),
		slog.String("commit", version.Commit()), slog.String("etcd-version", version.EtcdVersion))
	n, err := node.Open(ctx, settings)
	if err != nil && ctx.Err() != nil {
		return nil, nil // told to end while it waited for other members
	}
	if err != nil {
		return nil, err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "starting an etcd server", cfg.Echo(settled, "")...)
	go announce(ctx, n, cfg, log, terminal) // ends with ctx at the latest
	var supervising sync.WaitGroup
	supervising.Go(func() { supervise(ctx, n.Member(), manager, log) }) // ends with ctx
	supervising.Go(func() { checkAdvertised(ctx, n.Member(), cfg.AdvertiseClientURLs, log) })
	err = n.Run(ctx)
	cancel()
	supervising.Wait()
	closed := n.Close()
	if err == nil {
		return nil, closed
	}
	if closed != nil { // what follows from the first error is not to hide it
		log.Warn("could not close everything in good order", "error", closed)
	}
	return nil, err
}

// announce says, once, where clients connect and where data lies.
func announce(ctx context.Context, n *node.Node, cfg config.Config, log *slog.Logger, terminal bool) {
	select {
	case <-n.Member().Ready():
	case <-ctx.Done():
		return
	}
	log.Info("ready to serve client requests")
	for _, u := range cfg.ListenClientURLs {
		how := "serving client traffic insecurely; this is strongly discouraged!"
		if secured(u) {
			how = "serving client traffic securely"
		}
		log.Info(how, "traffic", "grpc+http", "address", u.Host+u.Path)
	}
	log.Info("holdfast is ready", "client-urls", urllist.Texts(cfg.ListenClientURLs), "data-dir", cfg.DataDir)
	if terminal {
		fmt.Fprintf(os.Stderr, "Holdfast is ready: clients connect to %s, data lies in %s. Stop it with Ctrl-C.\n",
			strings.Join(urllist.Texts(cfg.ListenClientURLs), ", "), cfg.DataDir)
	}
}

// nodeConfig turns settings into what the parts are made of.
func nodeConfig(cfg config.Config, memory server.Memory, log *slog.Logger) (node.Config, error) {
	quota, bounded := cfg.Quota()
	if !bounded {
		quota = -1
	}
	period, revisions, err := cfg.Compaction()
	if err != nil {
		return node.Config{}, err
	}
	logins, err := loginConfig(cfg, log)
	if err != nil {
		return node.Config{}, err
	}
	secure, err := openTLS(cfg, log)
	if err != nil {
		return node.Config{}, err
	}
	return node.Config{
		Login: logins, ClientTLS: secure.clients, PeerTLS: secure.peers,
		ClientURLs: cfg.ListenClientURLs, HTTPURLs: cfg.ListenClientHTTPURLs,
		MetricsURLs: cfg.ListenMetricsURLs, PeerURLs: cfg.ListenPeerURLs, Log: log,
		ReusePort: cfg.SocketReusePort, ReuseAddress: cfg.SocketReuseAddress,
		Bootstrap: origin{cfg, secure.dial(), log}.bootstrap, Metrics: newMetrics(cfg),
		Server: server.Config{
			DataDir: cfg.DataDir, WALDir: cfg.WALDir, Name: cfg.Name, ClientURLs: urllist.Texts(cfg.AdvertiseClientURLs),
			PeerURLs: urllist.Texts(cfg.AdvertisePeerURLs), ForceNewCluster: cfg.ForceNewCluster,
			Heartbeat: cfg.Heartbeat(), ElectionTicks: cfg.ElectionTicks(), PreVote: cfg.PreVote, HurryElection: cfg.ElectionTickAdvance,
			PeerReadTimeout: cfg.RaftReadTimeout, PeerWriteTimeout: cfg.RaftWriteTimeout, Dial: dialPeers(cfg, log), PeerTLS: secure.dial(),
			SnapshotEvery: cfg.SnapshotCount, CatchUpEntries: cfg.SnapshotCatchUpEntries, UnsafeNoSync: cfg.UnsafeNoFsync,
			Quota: quota, RequestBytesMax: int(cfg.MaxRequestBytes), LearnersMax: cfg.MaxLearners,
			StrictReconfigCheck: cfg.StrictReconfigCheck,
			DowngradeCheck:      cfg.DowngradeCheckTime,
			Corruption: server.CorruptionChecks{
				Initial: cfg.Gates.Enabled(config.InitialCorruptCheck), Every: cfg.CorruptCheckTime,
				Compactions: cfg.Gates.Enabled(config.CompactHashCheck), CompactionsEvery: cfg.CompactHashCheckTime,
			},
			LeaseCheckpointsOff: cfg.Gates.IsSet(config.LeaseCheckpoint) && !cfg.Gates.Enabled(config.LeaseCheckpoint),
			AutoCompaction:      server.AutoCompaction{Period: period, Revisions: revisions},
			CompactionRows:      cfg.CompactionBatchLimit, CompactionPause: cfg.CompactionSleepInterval,
			Memory: memory, SlowApply: cfg.WarnApply, Log: log,
		},
		API: api.Config{
			RequestBytesMax: int(cfg.MaxRequestBytes), TxnOpsMax: int(cfg.MaxTxnOps), StreamsMax: cfg.MaxStreams, CallsMax: memory.Calls,
			KeepAliveMin: cfg.KeepAliveMinTime, KeepAliveInterval: cfg.KeepAliveInterval, KeepAliveTimeout: cfg.KeepAliveTimeout,
			SlowCall: cfg.WarnUnary, Profiles: cfg.EnablePprof || cfg.Log.Level == "debug", CommandLine: config.Masked(os.Args),
			Gateway: cfg.EnableGRPCGateway, AnswerBytes: memory.AnswerBytes, BodyBytes: memory.BodyBytes, Origins: cfg.CORS, Hosts: cfg.HostAllow,
			WatchProgress: cfg.WatchProgressTime, ElectionTimeout: cfg.ElectionTimeout(), Log: log,
		},
	}, nil
}

// startTracing connects to the collector, if there is to be one.
func startTracing(ctx context.Context, cfg config.Config, log *slog.Logger) (*tracing.Tracing, error) {
	if !cfg.Tracing.Enabled {
		return nil, nil
	}
	return tracing.Start(ctx, tracing.Config{
		Address: cfg.Tracing.Address, Service: cfg.Tracing.Service, Instance: cfg.Tracing.Instance, PerMillion: cfg.Tracing.PerMillion, Log: log,
	})
}

// newMetrics is what the member shows of itself.
func newMetrics(cfg config.Config) *metrics.Set {
	set := metrics.New(metrics.Config{Extensive: cfg.Metrics == "extensive", Old: cfg.MetricsOld})
	set.Sample(func(s *metrics.Sample) {
		for _, gate := range config.AllGates() {
			s.Bool(metrics.Feature, cfg.Gates.Enabled(gate.Name), string(gate.Name), gate.Stage)
		}
	})
	return set
}

// loginConfig is how users log in. A cost that bcrypt does not know is replaced by the usual one, as in etcd.
func loginConfig(cfg config.Config, log *slog.Logger) (login.Config, error) {
	tokens, err := token.ParseOptions(cfg.AuthToken)
	if err != nil {
		return login.Config{}, fmt.Errorf("--auth-token: %w", err)
	}
	if len(tokens.Unknown) > 0 {
		log.Warn("unknown options of --auth-token", "options", tokens.Unknown)
	}
	cost := int(cfg.BcryptCost)
	if !password.IsCost(cost) {
		log.Warn("use default bcrypt cost instead of the invalid given cost", "default-cost", password.CostDefault, "given-cost", cost)
		cost = password.CostDefault
	}
	return login.Config{
		Tokens: tokens, TTL: time.Duration(cfg.AuthTokenTTL) * time.Second, BcryptCost: cost, CertificateNames: cfg.Client.ClientCertAuth,
	}, nil
}

// peerKeepAlive finds out that the machine of a member is gone while nothing is sent. etcd's number.
const peerKeepAlive = 30 * time.Second

// dialPeers connects to other members from the address that this one advertises, if the feature gate SetMemberLocalAddr asks for
// that and there is such an address; nil lets the system choose.
func dialPeers(cfg config.Config, log *slog.Logger) func(ctx context.Context, network, address string) (net.Conn, error) {
	if !cfg.Gates.Enabled(config.SetMemberLocalAddr) {
		return nil
	}
	for _, u := range cfg.AdvertisePeerURLs {
		if ip := net.ParseIP(u.Hostname()); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
			log.Info("setting member local address", "LocalAddr", ip.String())
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}, KeepAlive: peerKeepAlive}).DialContext
		}
	}
	log.Warn("unable to set a member local address due to lack of suitable local addresses", "advertise-peer-urls", urllist.Texts(cfg.AdvertisePeerURLs))
	return nil
}

// isTerminal tells whether a person reads what is written to f.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

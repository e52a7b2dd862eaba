package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/api/port"
	"holdfast/config"
	"holdfast/proxy"
	"holdfast/tlsconf"
)

// grpcProxy are the flags of "grpc-proxy start".
type grpcProxy struct {
	where
	listen, metrics string
	dataDir         string
	debug           bool
	proxy           proxy.Config

	toCert, toKey, toCA string // shown to members
	anyServer           bool

	cert, key, ca, crl string // shown to clients
	suites             []string
	low, high          string
	auto               bool
	autoYears          uint
}

// Defaults of etcd's.
const (
	proxySendMax     = 1536 << 10
	proxyPingMin     = 5 * time.Second
	proxyPing        = 2 * time.Hour
	proxyPingTimeout = 20 * time.Second
)

func grpcProxyCommand() *cobra.Command {
	g := new(grpcProxy)
	cmd := &cobra.Command{
		Use: "start", Short: "start the grpc proxy", Args: cobra.ArbitraryArgs, // etcd takes no notice of them either
		RunE: func(*cobra.Command, []string) error {
			if err := g.check(); err != nil {
				return err
			}
			level := "info"
			if g.debug {
				level = "debug"
			}
			return runUntilSignal(level, g.run)
		},
	}
	g.declare(cmd, "domain name to query for SRV records describing cluster endpoints")
	g.declareOwn(cmd)
	g.declareTLS(cmd)
	return cmd
}

func (g *grpcProxy) declareOwn(cmd *cobra.Command) {
	f, p := cmd.Flags(), &g.proxy
	f.StringVar(&g.listen, "listen-addr", "127.0.0.1:23790", "listen address")
	f.StringVar(&g.metrics, "metrics-addr", "", "listen for endpoint /metrics requests on an additional interface")
	f.DurationVar(&p.SyncInterval, "endpoints-auto-sync-interval", 0, "etcd endpoints auto sync interval (disabled by default)")
	f.DurationVar(&p.PingAfter, "dial-keepalive-time", 0, "keepalive time for client(grpc-proxy) connections (default 0, disable).")
	f.DurationVar(&p.PingTimeout, "dial-keepalive-timeout", proxyPingTimeout, "keepalive timeout for client(grpc-proxy) connections (default 20s).")
	f.BoolVar(&p.PingIdle, "permit-without-stream", false, "Enable client(grpc-proxy) to send keepalive pings even with no active RPCs.")
	f.StringVar(&p.Advertise, "advertise-client-url", "127.0.0.1:23790", "advertise address to register (must be reachable by client)")
	f.StringVar(&p.ResolverPrefix, "resolver-prefix", "", "prefix to use for registering proxy (must be shared with other grpc-proxy members)")
	f.IntVar(&p.ResolverTTL, "resolver-ttl", 0, "specify TTL, in seconds, when registering proxy endpoints")
	f.StringVar(&p.Namespace, "namespace", "", "string to prefix to all keys for namespacing requests")
	f.BoolVar(&p.Profiles, "enable-pprof", false, `Enable runtime profiling data via HTTP server. Address is at client URL + "/debug/pprof/"`)
	f.StringVar(&g.dataDir, "data-dir", "default.proxy", "Data directory for persistent data")
	f.IntVar(&p.SendMax, "max-send-bytes", proxySendMax, "message send limits in bytes (default value is 1.5 MiB)")
	f.IntVar(&p.ReceiveMax, "max-recv-bytes", math.MaxInt32, "message receive limits in bytes (default value is math.MaxInt32)")
	f.DurationVar(&p.ClientPingMin, "grpc-keepalive-min-time", proxyPingMin, "Minimum interval duration that a client should wait before pinging proxy.")
	f.DurationVar(&p.ClientPing, "grpc-keepalive-interval", proxyPing, "Frequency duration of server-to-client ping to check if a connection is alive (0 to disable).")
	f.DurationVar(&p.ClientPingTimeout, "grpc-keepalive-timeout", proxyPingTimeout, "Additional duration of wait before closing a non-responsive connection (0 to disable).")
	f.BoolVar(&p.Ordering, "experimental-serializable-ordering", false, "Ensure serializable reads have monotonically increasing store revisions across endpoints.")
	f.StringVar(&p.LeasingPrefix, "experimental-leasing-prefix", "", "leasing metadata prefix for disconnected linearized reads.")
	f.BoolVar(&p.LogCalls, "experimental-enable-grpc-logging", false, "logging all grpc requests and responses")
	f.BoolVar(&g.debug, "debug", false, "Enable debug-level logging for grpc-proxy.")
	f.Uint32Var(&p.StreamsMax, "max-concurrent-streams", math.MaxUint32, "Maximum concurrent streams that each client can open at a time.")
}

func (g *grpcProxy) declareTLS(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.toCert, "cert", "", "identify secure connections with etcd servers using this TLS certificate file")
	f.StringVar(&g.toKey, "key", "", "identify secure connections with etcd servers using this TLS key file")
	f.StringVar(&g.toCA, "cacert", "", "verify certificates of TLS-enabled secure etcd servers using this CA bundle")
	f.BoolVar(&g.anyServer, "insecure-skip-tls-verify", false, "skip authentication of etcd server TLS certificates (CAUTION: this option should be enabled only for testing purposes)")
	f.StringVar(&g.cert, "cert-file", "", "identify secure connections to the proxy using this TLS certificate file")
	f.StringVar(&g.key, "key-file", "", "identify secure connections to the proxy using this TLS key file")
	f.StringVar(&g.ca, "trusted-ca-file", "", "verify certificates of TLS-enabled secure proxy using this CA bundle")
	f.StringSliceVar(&g.suites, "listen-cipher-suites", nil, "Comma-separated list of supported TLS cipher suites between client/proxy (empty will be auto-populated by Go).")
	f.BoolVar(&g.auto, "auto-tls", false, "proxy TLS using generated certificates")
	f.StringVar(&g.crl, "client-crl-file", "", "proxy client certificate revocation list file.")
	f.UintVar(&g.autoYears, "self-signed-cert-validity", 1, "The validity period of the proxy certificates, unit is year")
	f.StringVar(&g.low, "tls-min-version", "TLS1.2", "Minimum TLS version supported by grpc proxy. Possible values: TLS1.2, TLS1.3.")
	f.StringVar(&g.high, "tls-max-version", "", "Maximum TLS version supported by grpc proxy. Possible values: TLS1.2, TLS1.3 (empty defers to Go).")
}

// check refuses what makes no sense, as etcd does and in its words.
func (g *grpcProxy) check() error {
	p := &g.proxy
	switch {
	case p.ResolverPrefix != "" && p.ResolverTTL < 1:
		return fmt.Errorf("invalid resolver-ttl %d", p.ResolverTTL)
	case p.ResolverPrefix == "" && p.ResolverTTL > 0:
		return fmt.Errorf("invalid resolver-prefix %q", p.ResolverPrefix)
	case p.ResolverPrefix != "" && p.Advertise == "":
		return fmt.Errorf("invalid advertise-client-url %q", p.Advertise)
	case g.auto && g.autoYears == 0:
		return errors.New("selfSignedCertValidity is invalid,it should be greater than 0")
	case len(g.endpoints) == 0:
		return errors.New("no endpoints found")
	}
	settings := g.tlsSettings()
	low, high, err := settings.TLSVersions()
	if err != nil {
		return err
	}
	if high != 0 && low > high {
		return fmt.Errorf("min version (%s) is greater than max version (%s)", g.low, g.high)
	}
	if low == tls.VersionTLS13 && len(g.suites) > 0 {
		return errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	}
	_, err = settings.CipherSuiteIDs()
	return err
}

// tlsSettings are the names of versions and suites, as a member's settings have them.
func (g *grpcProxy) tlsSettings() *config.Config {
	return &config.Config{TLSMin: g.low, TLSMax: g.high, CipherSuites: g.suites}
}

func (g *grpcProxy) run(ctx context.Context, log *slog.Logger) error {
	g.proxy.Log = log
	g.caFile = g.toCA // who vouches for members vouches for those that DNS names
	found, err := g.discovered(ctx, log)
	if err != nil {
		return err
	}
	g.proxy.Endpoints = g.endpoints
	if len(found) > 0 {
		g.proxy.Endpoints = urlsOf(found)
	}
	if g.proxy.TLS, err = g.towardsMembers(log); err != nil {
		return err
	}
	if side := g.proxy.TLS; side != nil {
		g.proxy.HTTP = &http.Client{Transport: &http.Transport{DialTLSContext: dialSide(side)}}
	}
	at, err := g.doors(log)
	if err != nil {
		return err
	}
	p, err := proxy.New(ctx, g.proxy)
	if err != nil {
		return err
	}
	log.Info("started gRPC proxy", "address", g.listen)
	tellReady(log)
	return p.Run(ctx, at)
}

// dialSide connects over TLS with the files as they are at the moment.
func dialSide(side *tlsconf.Side) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{Config: side.Client(host)}).DialContext(ctx, network, address)
	}
}

// towardsMembers is what is shown to members; nil if nothing is said about it.
func (g *grpcProxy) towardsMembers(log *slog.Logger) (*tlsconf.Side, error) {
	if g.toCert == "" && g.toKey == "" && g.toCA == "" && !g.anyServer {
		return nil, nil
	}
	if g.anyServer {
		log.Warn("--insecure-skip-tls-verify was given, this grpc proxy process skips authentication of etcd server TLS certificates. " +
			"This option should be enabled only for testing purposes.")
	}
	if err := g.errNamed(); err != nil {
		return nil, err
	}
	side, err := tlsconf.Open(tlsconf.Options{Dials: true, CertFile: g.toCert, KeyFile: g.toKey, TrustedCAFile: g.toCA, AnyServer: g.anyServer, Log: log})
	if err != nil {
		return nil, fmt.Errorf("TLS towards members: %w", err)
	}
	return side, nil
}

// errNamed refuses a certificate that names a user: members may take all clients for that one.
func (g *grpcProxy) errNamed() error {
	if g.toCert == "" || g.toKey == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(g.toCert, g.toKey)
	if err != nil {
		return nil // said better by who opens the files for good
	}
	if name := pair.Leaf.Subject.CommonName; name != "" {
		return fmt.Errorf("cert has non empty Common Name (%s): %s", name, g.toCert)
	}
	return nil
}

// towardsClients is what is shown to clients; nil if nothing is said about it.
func (g *grpcProxy) towardsClients(log *slog.Logger) (*tlsconf.Side, error) {
	o := tlsconf.Options{
		CertFile: g.cert, KeyFile: g.key, TrustedCAFile: g.ca, CRLFile: g.crl, Protocols: []string{"h2", "http/1.1"}, Log: log,
	}
	switch {
	case g.cert != "" || g.key != "" || g.ca != "":
	case g.auto:
		files := tlsconf.SelfSigned{
			Dir: filepath.Join(g.dataDir, "fixtures", "proxy"), Hosts: []string{g.listen}, Years: g.autoYears, Now: time.Now, Log: log,
		}
		var err error
		if o.CertFile, o.KeyFile, err = files.Make(); err != nil {
			return nil, err
		}
		o.AnyServer = true
	default:
		return nil, nil
	}
	settings := g.tlsSettings()
	var err error
	if o.MinVersion, o.MaxVersion, err = settings.TLSVersions(); err != nil {
		return nil, err
	}
	if o.CipherSuites, err = settings.CipherSuiteIDs(); err != nil {
		return nil, err
	}
	side, err := openSide(o, "proxy")
	if err == nil && !side.Serves() {
		err = errors.New("--trusted-ca-file needs --cert-file and --key-file")
	}
	return side, err
}

// doors listens where clients connect.
func (g *grpcProxy) doors(log *slog.Logger) (at proxy.Listeners, err error) {
	side, err := g.towardsClients(log)
	if err != nil {
		return at, err
	}
	var metrics *url.URL
	if g.metrics != "" {
		if metrics, err = url.Parse(g.metrics); err != nil {
			return at, fmt.Errorf("cannot parse %q: %w", g.metrics, err)
		}
	}
	l, err := net.Listen("tcp", g.listen)
	if err != nil {
		return at, err
	}
	log.Info("listening for gRPC proxy client requests", "address", g.listen)
	at.Clients = []port.Door{{Listener: l, TLS: side}}
	if metrics == nil {
		return at, nil
	}
	m, err := net.Listen("tcp", metrics.Host)
	if err != nil {
		return at, errors.Join(err, l.Close())
	}
	log.Info("gRPC proxy listening for metrics", "address", metrics.String())
	door := port.Door{Listener: m}
	if secured(*metrics) {
		door.TLS = side
	}
	if secured(*metrics) && side == nil {
		return at, errors.Join(errNoFiles, l.Close(), m.Close())
	}
	at.Metrics = []port.Door{door}
	return at, nil
}

// errNoFiles: an address of TLS without files for it.
var errNoFiles = errors.New("--metrics-addr asks for TLS: --cert-file and --key-file must be given")

package config

import (
	"net/url"
	"time"

	"holdfast/util/jsonlog"
)

// Defaults that are not the zero value. They are etcd 3.7's, but for the quota.
const (
	DefaultName                = "default"
	DefaultSnapshotCount       = 10000
	DefaultSnapshotCatchUp     = 5000
	DefaultMaxSnapshots        = 5
	DefaultMaxWALs             = 5
	DefaultHeartbeatMS         = 100
	DefaultElectionMS          = 1000
	DefaultMaxTxnOps           = 128
	DefaultMaxRequestBytes     = 1536 << 10
	DefaultMaxStreams          = 1<<32 - 1
	DefaultKeepAliveMinTime    = 5 * time.Second
	DefaultKeepAliveInterval   = 2 * time.Hour
	DefaultKeepAliveTimeout    = 20 * time.Second
	DefaultRaftTimeout         = 5 * time.Second
	DefaultPeerURL             = "http://localhost:2380"
	DefaultClientURL           = "http://localhost:2379"
	DefaultInitialCluster      = DefaultName + "=" + DefaultPeerURL
	DefaultClusterToken        = "etcd-cluster"
	DefaultCompactionMode      = CompactionPeriodic
	DefaultCompactionRetention = "0"
	DefaultCertYears           = 1
	DefaultTLSMinVersion       = "TLS1.2"
	DefaultAuthToken           = "simple"
	DefaultBcryptCost          = 10
	DefaultAuthTokenTTL        = 300
	DefaultMetrics             = "basic"
	DefaultWarnApply           = 100 * time.Millisecond
	DefaultWarnUnary           = 300 * time.Millisecond
	DefaultCompactHashCheck    = time.Minute
	DefaultDowngradeCheck      = 5 * time.Second
	DefaultMaxLearners         = 1
	DefaultTracingAddress      = "localhost:4317"
	DefaultTracingService      = "etcd"
	DefaultDiscoveryDial       = 2 * time.Second
	DefaultDiscoveryRequest    = 5 * time.Second
	DefaultDiscoveryAlive      = 2 * time.Second
	DefaultDiscoveryAliveOut   = 6 * time.Second

	// DefaultQuotaBytes holds when the quota is 0. etcd's 2 GiB protects a file that must be defragmented and sent whole; ours
	// gives space back by itself.
	DefaultQuotaBytes = 100 << 30

	// RecommendedRequestBytes is the request size above which a start warns: every follower carries each request whole.
	RecommendedRequestBytes = 10 << 20
)

// Values of InitialClusterState and AutoCompactionMode.
const (
	ClusterNew         = "new"
	ClusterExisting    = "existing"
	CompactionPeriodic = "periodic"
	CompactionRevision = "revision"
)

// Config is everything a member is told. Each field's comment names its flag where the name alone does not.
type Config struct {
	ConfigFile string // path the rest was read from; "" means flags and variables

	Name    string // "" is allowed; default DefaultName
	DataDir string // after Parse never empty: <name>.etcd
	WALDir  string // "" means inside DataDir

	SnapshotCount          uint64 // applied entries between releases of the log; default DefaultSnapshotCount
	SnapshotCatchUpEntries uint64 // entries kept for slow followers; default DefaultSnapshotCatchUp
	MaxSnapshots           uint   // no effect; echoed at start
	MaxWALs                uint   // no effect; echoed at start

	HeartbeatMS         uint // milliseconds, > 0; default DefaultHeartbeatMS
	ElectionMS          uint // milliseconds, at least 5 heartbeats, at most electionMaxMS; default DefaultElectionMS
	ElectionTickAdvance bool // fast-forward the first election; default true
	PreVote             bool // default true

	QuotaBytes      int64 // 0 means DefaultQuotaBytes, negative no quota; see Quota
	MaxTxnOps       uint  // operations in one transaction; default DefaultMaxTxnOps
	MaxRequestBytes uint  // bytes of one request in the log; default DefaultMaxRequestBytes
	MaxStreams      uint32
	MemoryLock      bool  // --memory-mlock
	MetricsOld      bool  // also the names that etcd gave up
	MemoryLimit     int64 // bytes the process may take; 0 means what its control group allows
	UnsafeNoFsync   bool
	ForceNewCluster bool

	KeepAliveMinTime  time.Duration // a client that pings more often is sent away; default DefaultKeepAliveMinTime
	KeepAliveInterval time.Duration // server's ping of an idle connection, 0 means never; default DefaultKeepAliveInterval
	KeepAliveTimeout  time.Duration // wait for the answer to it; default DefaultKeepAliveTimeout

	SocketReusePort    bool
	SocketReuseAddress bool

	RaftReadTimeout  time.Duration // never below DefaultRaftTimeout
	RaftWriteTimeout time.Duration // never below DefaultRaftTimeout

	ListenPeerURLs       []url.URL // sorted, without doubles, as all URL lists
	ListenClientURLs     []url.URL
	ListenClientHTTPURLs []url.URL // empty means HTTP is served beside gRPC
	ListenMetricsURLs    []url.URL
	AdvertisePeerURLs    []url.URL
	AdvertiseClientURLs  []url.URL

	InitialCluster      string // see InitialMembers; "" with discovery
	InitialClusterState string // ClusterNew or ClusterExisting
	InitialClusterToken string
	StrictReconfigCheck bool // default true
	Discovery           Discovery

	AutoCompactionMode      string // CompactionPeriodic or CompactionRevision
	AutoCompactionRetention string // see Compaction
	CompactionBatchLimit    int    // revisions in one step of a compaction; 0 means the store's choice
	CompactionSleepInterval time.Duration

	Client       TLS // towards clients
	Peer         TLS // between members
	CertYears    uint
	CipherSuites []string // names of Go's crypto/tls; empty means Go's choice
	TLSMin       string   // "TLS1.2", "TLS1.3" or "" for Go's choice
	TLSMax       string
	CORS         []string // origins allowed, sorted; "*" means all
	HostAllow    []string // --host-whitelist, sorted; "*" or none means all

	AuthToken    string // "simple" or "jwt,..."
	BcryptCost   uint
	AuthTokenTTL uint // seconds

	EnableGRPCGateway bool
	EnablePprof       bool
	Metrics           string // "basic" or "extensive"
	Tracing           Tracing
	Log               jsonlog.Config
	WarnApply         time.Duration // an apply that takes longer is logged
	WarnUnary         time.Duration // a request that takes longer is logged; 0 means DefaultWarnUnary

	CorruptCheckTime     time.Duration // 0 means no periodic check
	CompactHashCheckTime time.Duration // > 0
	WatchProgressTime    time.Duration // 0 means the watch package's choice
	DowngradeCheckTime   time.Duration
	MaxLearners          int
	Gates                Gates
}

// TLS is one side's certificates. A file is named, never read, here.
type TLS struct {
	CertFile, KeyFile             string
	ClientCertFile, ClientKeyFile string // used when we are the client; "" means CertFile and KeyFile
	TrustedCAFile, CRLFile        string
	ClientCertAuth                bool
	Auto                          bool // make certificates under the data directory; given files win
	AllowedCNs, AllowedHostnames  []string
	SkipClientSANVerify           bool
}

// Given reports whether certificate files are named.
func (t TLS) Given() bool { return t.CertFile != "" || t.KeyFile != "" }

// Discovery says where a new cluster finds its members.
type Discovery struct {
	SRV, SRVName string // DNS domain, and suffix of the service's name

	Token                            string
	Endpoints                        []string // sorted
	DialTimeout, RequestTimeout      time.Duration
	KeepAliveTime, KeepAliveTimeout  time.Duration
	InsecureTransport, SkipTLSVerify bool
	Cert, Key, CACert                string
	User, Password                   string
}

// Tracing is where spans are sent; it holds only with Enabled.
type Tracing struct {
	Enabled    bool
	Address    string // host:port of an OTLP collector
	Service    string
	Instance   string
	PerMillion int // spans sampled out of a million, 0 to 1000000
}

// Default is a configuration without any flag, before Parse has derived what depends on others.
func Default() Config {
	return Config{
		Name:                    DefaultName,
		SnapshotCount:           DefaultSnapshotCount,
		SnapshotCatchUpEntries:  DefaultSnapshotCatchUp,
		MaxSnapshots:            DefaultMaxSnapshots,
		MaxWALs:                 DefaultMaxWALs,
		HeartbeatMS:             DefaultHeartbeatMS,
		ElectionMS:              DefaultElectionMS,
		ElectionTickAdvance:     true,
		PreVote:                 true,
		MaxTxnOps:               DefaultMaxTxnOps,
		MaxRequestBytes:         DefaultMaxRequestBytes,
		MaxStreams:              DefaultMaxStreams,
		KeepAliveMinTime:        DefaultKeepAliveMinTime,
		KeepAliveInterval:       DefaultKeepAliveInterval,
		KeepAliveTimeout:        DefaultKeepAliveTimeout,
		RaftReadTimeout:         DefaultRaftTimeout,
		RaftWriteTimeout:        DefaultRaftTimeout,
		ListenPeerURLs:          mustURLs(DefaultPeerURL),
		ListenClientURLs:        mustURLs(DefaultClientURL),
		AdvertisePeerURLs:       mustURLs(DefaultPeerURL),
		AdvertiseClientURLs:     mustURLs(DefaultClientURL),
		InitialCluster:          DefaultInitialCluster,
		InitialClusterState:     ClusterNew,
		InitialClusterToken:     DefaultClusterToken,
		StrictReconfigCheck:     true,
		AutoCompactionMode:      DefaultCompactionMode,
		AutoCompactionRetention: DefaultCompactionRetention,
		CertYears:               DefaultCertYears,
		TLSMin:                  DefaultTLSMinVersion,
		CORS:                    []string{"*"},
		HostAllow:               []string{"*"},
		AuthToken:               DefaultAuthToken,
		BcryptCost:              DefaultBcryptCost,
		AuthTokenTTL:            DefaultAuthTokenTTL,
		EnableGRPCGateway:       true,
		Metrics:                 DefaultMetrics,
		WarnApply:               DefaultWarnApply,
		WarnUnary:               DefaultWarnUnary,
		CompactHashCheckTime:    DefaultCompactHashCheck,
		DowngradeCheckTime:      DefaultDowngradeCheck,
		MaxLearners:             DefaultMaxLearners,
		Discovery: Discovery{
			DialTimeout:       DefaultDiscoveryDial,
			RequestTimeout:    DefaultDiscoveryRequest,
			KeepAliveTime:     DefaultDiscoveryAlive,
			KeepAliveTimeout:  DefaultDiscoveryAliveOut,
			InsecureTransport: true,
		},
		Tracing: Tracing{Address: DefaultTracingAddress, Service: DefaultTracingService},
		Log: jsonlog.Config{
			Outputs:  []string{jsonlog.Default},
			Level:    "info",
			Format:   string(jsonlog.JSON),
			Rotation: jsonlog.DefaultRotation,
		},
	}
}

// Heartbeat is one tick of raft.
func (c Config) Heartbeat() time.Duration { return time.Duration(c.HeartbeatMS) * time.Millisecond }

// ElectionTicks is the election timeout in whole ticks.
func (c Config) ElectionTicks() int { return int(c.ElectionMS / c.HeartbeatMS) }

// ElectionTimeout is the election timeout that results: whole ticks, which may be less than was asked.
func (c Config) ElectionTimeout() time.Duration {
	return time.Duration(c.ElectionTicks()) * c.Heartbeat()
}

// Quota is the number of bytes the store may hold; ok is false when there is none.
func (c Config) Quota() (quota int64, ok bool) {
	if c.QuotaBytes == 0 {
		return DefaultQuotaBytes, true
	}
	return c.QuotaBytes, c.QuotaBytes > 0
}

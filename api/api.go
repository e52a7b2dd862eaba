// Package api is the protocol of etcd v3, in and out: the gRPC services, and below it the rooms of what stands beside them (calls,
// port, gateway, recipe, web). It checks what can be checked about a request without the state, calls the member, and puts its answers and
// errors into etcd's words.
//
//	Errors   errors.go is the only table from errors to codes and texts on the wire
//	Source   etcd v3 API (rpc.proto), etcd 3.7 for checks and texts
package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/grpc"

	"holdfast/api/calls"
	"holdfast/api/recipe"
	"holdfast/api/web"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/login"
	"holdfast/membership"
	"holdfast/metrics"
	"holdfast/mvcc"
	"holdfast/replica"
	"holdfast/server"
	"holdfast/tracing"
	"holdfast/watch"
)

// Member is what the services ask of the member they serve; *server.Server is one.
type Member interface {
	Header() kv.Header
	Leader() kv.MemberID
	ID() kv.MemberID
	ClusterID() uint64
	ClusterVersion() string

	RangeWithin(context.Context, *kv.RangeRequest, mvcc.Room) (*kv.RangeResult, *mvcc.Rest, error)
	RangeBytes(kv.KeyRange) int64
	Put(context.Context, *kv.PutRequest, kv.Draft) (*kv.PutResult, error)
	DeleteRange(context.Context, *kv.DeleteRangeRequest, kv.Draft) (*kv.DeleteRangeResult, error)
	Txn(context.Context, *kv.TxnRequest, kv.Draft) (*kv.TxnResult, error)
	Compact(context.Context, kv.CompactRequest) (kv.Revision, error)

	NewWatchStream(wake func()) *watch.Stream
	CheckWatch(context.Context, *kv.WatchCreate) error

	LeaseGrant(context.Context, kv.LeaseGrantRequest) (lease.Lease, error)
	LeaseRevoke(context.Context, kv.LeaseID) error
	LeaseRenew(context.Context, kv.LeaseID) (int64, error)
	LeaseTimeToLive(ctx context.Context, id kv.LeaseID, keys bool) (server.LeaseStatus, error)
	Leases(context.Context) ([]kv.LeaseID, error)
	// LeaseRenewHere and LeaseTimeToLiveHere are for the other members, which ask the leader.
	LeaseRenewHere(context.Context, kv.LeaseID) (int64, error)
	LeaseTimeToLiveHere(ctx context.Context, id kv.LeaseID, keys bool) (server.LeaseStatus, error)

	Alarm(context.Context, server.AlarmAction, membership.Alarm) ([]membership.Alarm, error)
	HasAlarm(membership.AlarmType) bool
	Status() server.Status
	Hash(context.Context) (uint32, error)
	HashKV(context.Context, kv.Revision) (mvcc.Hash, error)
	Snapshot(context.Context) (server.Snapshot, error)
	Defragment(context.Context) error
	MoveLeader(context.Context, kv.MemberID) error
	DowngradeValidate(ctx context.Context, target string) (cluster string, err error)
	DowngradeEnable(ctx context.Context, target string) (cluster string, err error)
	DowngradeCancel(context.Context) (cluster string, err error)
	DowngradeEnabled(context.Context) (bool, error)

	Members(ctx context.Context, linearizable bool) ([]membership.Member, error)
	MemberAdd(ctx context.Context, peerURLs []string, learner bool) (membership.Member, []membership.Member, error)
	MemberRemove(context.Context, kv.MemberID) ([]membership.Member, error)
	MemberUpdate(ctx context.Context, id kv.MemberID, peerURLs []string) ([]membership.Member, error)
	MemberPromote(context.Context, kv.MemberID) ([]membership.Member, error)
	IsLearner() bool
	RaftStatus() replica.Status

	Auth() *auth.State
	AuthState(context.Context) (*auth.State, error)
	LogIn(ctx context.Context, user, prefix string) (kv.Index, error)
	AppliedIndex() kv.Index
	CheckAdmin(context.Context) error
	CheckUser(context.Context) error
	AuthEnable(context.Context) error
	AuthDisable(context.Context) error
	UserAdd(ctx context.Context, name string, hash []byte, noPassword bool) error
	UserChangePassword(ctx context.Context, name string, hash []byte) error
	UserDelete(ctx context.Context, name string) error
	UserGrantRole(ctx context.Context, name, role string) error
	UserRevokeRole(ctx context.Context, name, role string) error
	UserGet(ctx context.Context, name string) (roles []string, err error)
	Users(context.Context) ([]string, error)
	RoleAdd(ctx context.Context, name string) error
	RoleDelete(ctx context.Context, name string) error
	RoleGrantPermission(ctx context.Context, role string, p *authpb.Permission) error
	RoleRevokePermission(ctx context.Context, role string, r kv.KeyRange) error
	RoleGet(ctx context.Context, name string) ([]*authpb.Permission, error)
	Roles(context.Context) ([]string, error)

	// RaftHandler serves /raft and what is below it to other members.
	RaftHandler() http.Handler
}

// Config bounds what clients may do.
type Config struct {
	// RequestBytesMax bounds a request; gRPC accepts requestExtra more, so that the refusal comes in etcd's words.
	RequestBytesMax int
	// TxnOpsMax bounds the operations of a transaction and of its nesting.
	TxnOpsMax int
	// StreamsMax bounds the calls of one connection under way at once; 0 is no bound.
	StreamsMax uint32
	// CallsMax bounds how many calls that change something are under way at once on all connections, and again how many
	// that read, and how many log in; 0 is server.CallsDefault.
	CallsMax int
	// AnswerBytes bounds the answers to ranges that are being made or sent; 0 is server.AnswerBytesDefault.
	AnswerBytes int64
	// KeepAliveMin is the shortest pause between pings that a client may make; KeepAliveInterval is how often a quiet client
	// is pinged, and KeepAliveTimeout how long it has to answer. 0 leaves gRPC's defaults.
	KeepAliveMin, KeepAliveInterval, KeepAliveTimeout time.Duration
	// WatchProgress is how often quiet watches that asked for it are told how far they are; 0 is watchProgressDefault.
	WatchProgress time.Duration
	// ElectionTimeout is how often it is looked whether there is a leader, for streams that need one.
	ElectionTimeout time.Duration

	// Logins knows who asks; required.
	Logins *login.Keeper

	// SlowCall is from when on a unary call is logged; 0 logs none.
	SlowCall time.Duration
	// Profiles serves Go's profiles under /debug/pprof/.
	Profiles bool
	// Gateway serves the API as JSON below /v3/. BodyBytes bounds what the requests to it hold together; 0 is gateway's default.
	Gateway   bool
	BodyBytes int64
	// Origins are whose pages browsers let use the answers, Hosts the names under which this member may be called without TLS.
	// None, or "*" among them, is all.
	Origins, Hosts []string
	// SetLogLevel changes what is logged, by a level's name; nil lets nobody do so over HTTP.
	SetLogLevel func(level string) error
	// CommandLine is shown to those who debug, so it must hold no secret.
	CommandLine []string

	// Metrics is what the member shows; nil is a set of its own.
	Metrics *metrics.Set
	// Tracing is where spans of calls and operations go; nil is nowhere.
	Tracing *tracing.Tracing
	Log     *slog.Logger
}

// requestExtra is how far a gRPC message may exceed RequestBytesMax, as in etcd.
const requestExtra = 512 << 10

// watchProgressDefault is etcd's interval of progress notifications, watchProgressMin the shortest it allows.
const (
	watchProgressDefault = 10 * time.Minute
	watchProgressMin     = 100 * time.Millisecond
)

// API serves one member.
type API struct {
	member  Member
	cfg     Config
	log     *slog.Logger
	grpc    *grpc.Server
	leaders *leaderWatch
	guard   *calls.Guard
	answers *answers
	stats   *calls.Stats
	web     *web.Endpoints
	recipes *recipe.Service
	rounds  *rounds
	// stopping is closed when streams are to end.
	stopping chan struct{}
}

// New makes the services of a member. Serve gives them connections.
func New(member Member, cfg Config) *API {
	if cfg.CallsMax <= 0 {
		cfg.CallsMax = server.CallsDefault
	}
	if cfg.WatchProgress == 0 {
		cfg.WatchProgress = watchProgressDefault
	}
	cfg.WatchProgress = max(cfg.WatchProgress, watchProgressMin)
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.New(metrics.Config{})
	}
	if cfg.Tracing != nil {
		member = traced{member, cfg.Tracing}
	}
	a := &API{
		member: member, cfg: cfg, log: cfg.Log, leaders: newLeaderWatch(),
		guard: calls.NewGuard(cfg.CallsMax, toWire(server.ErrTooManyRequests)), stats: calls.NewStats(cfg.Metrics), rounds: newRounds(), stopping: make(chan struct{}),
	}
	a.answers = newAnswers(cfg.AnswerBytes, a.guard.Writes, cfg.Log)
	a.web = web.New(web.Config{
		Member: a.member, OnWire: toWire, As: a.withCredentials, Profiles: cfg.Profiles, Origins: cfg.Origins, Hosts: cfg.Hosts,
		SetLogLevel: cfg.SetLogLevel, CommandLine: cfg.CommandLine, Metrics: cfg.Metrics, Log: cfg.Log,
	})
	a.recipes = recipe.New(asClient{a}, cfg.Log)
	a.grpc = a.newGRPC()
	cfg.Metrics.Sample(a.stats.Sample)
	cfg.Metrics.Sample(a.guard.Sample)
	cfg.Metrics.Sample(a.sampleLogIns)
	return a
}

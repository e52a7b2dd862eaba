// Package web is what a member is asked over HTTP beside calls in JSON: health, metrics, versions and what helps to debug, by clients;
// members, leases and hashes by other members, and tools, at the addresses for members.
//
//	Source   etcd 3.7 for paths, texts and codes
package web

import (
	"context"
	"log/slog"
	"net/http"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/login"
	"holdfast/membership"
	"holdfast/metrics"
	"holdfast/mvcc"
	"holdfast/replica"
	"holdfast/server"
)

// Member is what is asked of the member.
type Member interface {
	Header() kv.Header
	Leader() kv.MemberID
	ClusterID() uint64
	ClusterVersion() string
	Status() server.Status
	RaftStatus() replica.Status
	IsLearner() bool
	HasAlarm(membership.AlarmType) bool
	Auth() *auth.State
	CheckAdmin(context.Context) error

	RangeWithin(context.Context, *kv.RangeRequest, mvcc.Room) (*kv.RangeResult, *mvcc.Rest, error)
	HashKV(context.Context, kv.Revision) (mvcc.Hash, error)
	LeaseRenewHere(context.Context, kv.LeaseID) (int64, error)
	LeaseTimeToLiveHere(ctx context.Context, id kv.LeaseID, keys bool) (server.LeaseStatus, error)
	Members(ctx context.Context, linearizable bool) ([]membership.Member, error)
	MemberPromote(context.Context, kv.MemberID) ([]membership.Member, error)
	DowngradeEnabled(context.Context) (bool, error)

	// RaftHandler serves /raft and what is below it to other members.
	RaftHandler() http.Handler
}

// Config says who is asked, and what may be.
type Config struct {
	Member Member
	// OnWire puts an error into etcd's words.
	OnWire func(error) error
	// As gives a context in which the member finds whose credentials came along.
	As func(context.Context, login.Credentials) context.Context
	// Profiles serves Go's profiles under /debug/pprof/.
	Profiles bool
	// Origins are whose pages browsers let use the answers, Hosts the names under which this member may be called without TLS.
	// None, or "*" among them, is all.
	Origins, Hosts []string
	// SetLogLevel changes what is logged, by a level's name; nil lets nobody do so.
	SetLogLevel func(level string) error
	// CommandLine is shown to those who debug, so it must hold no secret.
	CommandLine []string
	Metrics     *metrics.Set
	Log         *slog.Logger
}

// Endpoints answers.
type Endpoints struct {
	member Member
	cfg    Config
	log    *slog.Logger
	health healthStats
}

// New makes the endpoints of a member. What they count is shown in cfg.Metrics.
func New(cfg Config) *Endpoints {
	e := &Endpoints{member: cfg.Member, cfg: cfg, log: cfg.Log}
	cfg.Metrics.Sample(e.health.sample)
	return e
}

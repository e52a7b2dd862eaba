package api

import (
	"context"
	"math"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"holdfast/api/calls"
	"holdfast/api/port"
)

// callWorkers is how many goroutines gRPC keeps for calls. A new goroutine for each call has its stack copied up to three
// times on its way down: a fifth of the cost of a get (bench/FINDINGS.md). Beyond so many calls at once, and beside so many
// open streams, new ones are started as before. They take turns, so that all their stacks are used however few calls there are: no more than it takes.
const callWorkers = 256

// windowMin is how much a connection may send before it hears that some of it has arrived: a megabyte for each round trip.
const windowMin = 1 << 20

// newGRPC makes the gRPC server with all services.
func (a *API) newGRPC() *grpc.Server {
	// A request fits into a window, so it comes without being asked for. Where no window is given gRPC finds one: it answers each request that
	// comes while it is not measuring with a ping, which is a write and a read of its own, and as much to do for the client.
	window := int32(max(a.cfg.RequestBytesMax+requestExtra, windowMin))
	opts := []grpc.ServerOption{
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.Creds(port.Credentials()),
		grpc.ForceServerCodecV2(newCodec(a.stats)),
		grpc.InTapHandle(a.guard.Admit),
		grpc.NumStreamWorkers(callWorkers),
		grpc.UnaryInterceptor(a.countUnary),
		grpc.StreamInterceptor(a.countStream),
		grpc.MaxRecvMsgSize(a.cfg.RequestBytesMax + requestExtra),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxHeaderListSize(port.HeaderBytesMax),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: a.cfg.KeepAliveMin}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: a.cfg.KeepAliveInterval, Timeout: a.cfg.KeepAliveTimeout}),
	}
	if a.cfg.Tracing != nil {
		opts = append(opts, grpc.StatsHandler(a.cfg.Tracing.Handler()))
	}
	if a.cfg.StreamsMax > 0 {
		opts = append(opts, grpc.MaxConcurrentStreams(a.cfg.StreamsMax))
	}
	s := grpc.NewServer(opts...)
	s.RegisterService(&kvService, a)
	s.RegisterService(&watchService, a)
	s.RegisterService(leaseService(), &leases{API: a})
	pb.RegisterMaintenanceServer(s, &maintenance{API: a})
	pb.RegisterClusterServer(s, &cluster{API: a})
	pb.RegisterAuthServer(s, &accounts{API: a})
	s.RegisterService(&lockService, a)
	s.RegisterService(&electionService, a)
	healthy := health.NewServer()
	healthy.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s, healthy)
	a.stats.Know(s, a.cfg.Metrics)
	return s
}

// countUnary counts a unary call around whatever else is done with it.
func (a *API) countUnary(ctx context.Context, q any, info *grpc.UnaryServerInfo, run grpc.UnaryHandler) (any, error) {
	call := a.stats.BeginUnary(info.FullMethod)
	answer, err := a.unaryCall(ctx, q, info, run)
	call.EndUnary(err)
	return answer, err
}

// countStream is countUnary for streams.
func (a *API) countStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, run grpc.StreamHandler) error {
	call := a.stats.Begin(info.FullMethod)
	err := a.streamCall(srv, call.Stream(stream), info, run)
	call.End(err)
	return err
}

// unaryCall checks what comes with a call before it runs.
func (a *API) unaryCall(ctx context.Context, q any, info *grpc.UnaryServerInfo, run grpc.UnaryHandler) (any, error) {
	if class := calls.Running(ctx); class != nil {
		defer class.Leave()
	}
	if a.member.IsLearner() && !learnerAnswers(q) {
		return nil, rpctypes.ErrGRPCNotSupportedForLearner
	}
	if err := a.stats.Client(ctx, "unary"); err != nil {
		return nil, err
	}
	if needsLeader(ctx) && a.member.Leader() == 0 {
		return nil, rpctypes.ErrGRPCNoLeader
	}
	if a.member.Auth().Enabled() {
		ctx = a.withCaller(ctx)
	}
	if a.cfg.SlowCall <= 0 {
		return run(ctx, q)
	}
	began := time.Now()
	answer, err := run(ctx, q)
	if took := time.Since(began); took > a.cfg.SlowCall {
		a.logSlow(ctx, info.FullMethod, took, err)
	}
	return answer, err
}

// logSlow says that a call took long, in the words that tools look for. Keys and values are not its business.
func (a *API) logSlow(ctx context.Context, method string, took time.Duration, err error) {
	remote := ""
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	a.log.Warn("request stats", "response type", method, "remote", remote, "time spent", took, "code", status.Code(err).String())
}

// streamCall is unaryCall for streams; one that needs a leader ends when there has been none for a while.
func (a *API) streamCall(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, run grpc.StreamHandler) error {
	if class := calls.Running(stream.Context()); class != nil {
		defer class.Leave()
	}
	if a.member.IsLearner() && info.FullMethod != pb.Maintenance_Snapshot_FullMethodName {
		return rpctypes.ErrGRPCNotSupportedForLearner
	}
	if err := a.stats.Client(stream.Context(), "stream"); err != nil {
		return err
	}
	ctx := a.withCaller(stream.Context()) // authentication may be switched on while the stream lives
	if !needsLeader(ctx) {
		return run(srv, streamWith{stream, ctx})
	}
	if a.member.Leader() == 0 {
		return rpctypes.ErrGRPCNoLeader
	}
	ctx, leave := a.leaders.join(ctx)
	defer leave()
	return run(srv, streamWith{stream, ctx})
}

// learnerAnswers tells whether a member without a vote answers a unary call: only of what it has itself, and only this, as
// in etcd, so that clients do not take it for one to rely on. Of streams it serves snapshots.
func learnerAnswers(q any) bool {
	switch q := q.(type) {
	case *pb.StatusRequest:
		return true
	case *rangeCall:
		return q.Serializable
	}
	return false
}

func needsLeader(ctx context.Context) bool {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
}

// streamWith is a stream with another context.
type streamWith struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s streamWith) Context() context.Context { return s.ctx }

// leaderWatch holds the streams that need a leader.
type leaderWatch struct {
	mu      sync.Mutex // guards the field below
	streams map[*context.CancelCauseFunc]struct{}
}

func newLeaderWatch() *leaderWatch {
	return &leaderWatch{streams: map[*context.CancelCauseFunc]struct{}{}}
}

func (w *leaderWatch) join(ctx context.Context) (_ context.Context, leave func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streams[&cancel] = struct{}{}
	return ctx, func() {
		w.mu.Lock()
		delete(w.streams, &cancel)
		w.mu.Unlock()
		cancel(nil)
	}
}

func (w *leaderWatch) end(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for cancel := range w.streams {
		(*cancel)(why)
	}
	clear(w.streams)
}

// leaderlessMax is how many election timeouts in a row must pass without a leader before streams that need one are ended:
// a reconnecting stream costs more than a refused call.
const leaderlessMax = 3

// watchLeader ends streams that need a leader when there has been none for a while.
func (a *API) watchLeader(ctx context.Context) error {
	tick := time.NewTicker(max(a.cfg.ElectionTimeout, time.Millisecond))
	defer tick.Stop()
	for without := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if a.member.Leader() != 0 {
			without = 0
			continue
		}
		if without++; without >= leaderlessMax {
			a.leaders.end(rpctypes.ErrGRPCNoLeader)
		}
	}
}

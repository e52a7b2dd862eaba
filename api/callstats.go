package api

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"holdfast/metrics"
	"holdfast/watch"
)

// callStats counts calls as the library does that etcd uses, but each method has its counters ready: a call costs one look into
// a map that never changes and a few additions.
type callStats struct {
	methods map[string]*methodStats // by full name
	clients clientVersions

	sentBytes, receivedBytes atomic.Uint64 // of messages

	// streamFailures are streams that did not end by their client's leaving.
	streamFailures *metrics.Counters

	watchSend, watchSendPerEvent, watchSendControl, watchSendProgress *metrics.Histogram

	started time.Time
}

// time is how long the API has been there. It costs half of what time.Now does: nobody asks for the date.
func (c *callStats) time() time.Duration { return time.Since(c.started) }

// methodStats counts the calls of one method.
type methodStats struct {
	kind, service, name string

	started, received, sent atomic.Uint64
	handled                 [codesKnown]atomic.Uint64 // by code
	took                    *metrics.Histogram        // nil: not timed
}

// codesKnown is how many codes gRPC has.
const codesKnown = int(codes.Unauthenticated) + 1

func newCallStats(set *metrics.Set) *callStats {
	c := &callStats{
		started:        time.Now(),
		streamFailures: set.Counters(metrics.StreamFailures),
		watchSend:      set.Histogram(metrics.WatchSend), watchSendPerEvent: set.Histogram(metrics.WatchSendPerEvent),
		watchSendControl: set.Histogram(metrics.WatchSendControl), watchSendProgress: set.Histogram(metrics.WatchSendProgress),
	}
	c.clients.by.Store(&map[clientVersion]*atomic.Uint64{})
	return c
}

// know makes the counters of all methods of a server, which takes no more services after that.
func (c *callStats) know(s *grpc.Server, set *metrics.Set) {
	c.methods = map[string]*methodStats{}
	var took *metrics.Histograms
	if set.Extensive() {
		took = set.Histograms(metrics.CallDuration)
	}
	for service, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			stats := &methodStats{kind: kindOf(m), service: service, name: m.Name}
			if took != nil {
				stats.took = took.With(stats.kind, service, m.Name)
			}
			c.methods["/"+service+"/"+m.Name] = stats
		}
	}
}

func kindOf(m grpc.MethodInfo) string {
	switch {
	case m.IsClientStream && m.IsServerStream:
		return "bidi_stream"
	case m.IsClientStream:
		return "client_stream"
	case m.IsServerStream:
		return "server_stream"
	}
	return "unary"
}

// begin counts a call that begins.
func (m *methodStats) begin() (at time.Time) {
	m.started.Add(1)
	if m.took != nil {
		at = time.Now()
	}
	return at
}

// end counts a call that ends, under the code that gRPC makes of its error.
func (m *methodStats) end(began time.Time, err error) {
	code := codes.OK
	if err != nil {
		s, is := status.FromError(err)
		if !is {
			s = status.FromContextError(err)
		}
		code = s.Code()
	}
	if int(code) >= codesKnown {
		code = codes.Unknown
	}
	m.handled[code].Add(1)
	if m.took != nil {
		m.took.Took(time.Since(began))
	}
}

// countUnary counts a unary call around whatever else is done with it.
func (a *API) countUnary(ctx context.Context, q any, info *grpc.UnaryServerInfo, run grpc.UnaryHandler) (any, error) {
	m := a.calls.methods[info.FullMethod]
	began := m.begin()
	m.received.Add(1)
	answer, err := a.unaryCall(ctx, q, info, run)
	m.sent.Add(1) // an error counts as one too
	m.end(began, err)
	return answer, err
}

// countStream is countUnary for streams.
func (a *API) countStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, run grpc.StreamHandler) error {
	m := a.calls.methods[info.FullMethod]
	began := m.begin()
	err := a.streamCall(srv, countedStream{stream, m}, info, run)
	m.end(began, err)
	return err
}

// countedStream counts what goes over a stream.
type countedStream struct {
	grpc.ServerStream
	stats *methodStats
}

// RecvMsg implements grpc.ServerStream.
func (s countedStream) RecvMsg(into any) error {
	err := s.ServerStream.RecvMsg(into)
	if err == nil {
		s.stats.received.Add(1)
	}
	return err
}

// SendMsg implements grpc.ServerStream.
func (s countedStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.stats.sent.Add(1)
	}
	return err
}

// failed counts the failure of a stream of an API, unless it is the client's leaving.
func (c *callStats) failed(ctx context.Context, direction, api string, err error) {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled {
		return
	}
	c.streamFailures.Inc(direction, api)
}

// watchSent counts a message to a watching client that took so long to be found and sent.
func (c *callStats) watchSent(r *watch.Response, took time.Duration) {
	switch {
	case len(r.Events) > 0:
		c.watchSend.Took(took)
		c.watchSendPerEvent.Took(took / time.Duration(len(r.Events)))
	case r.Created || r.Canceled:
		c.watchSendControl.Took(took)
	default:
		c.watchSendProgress.Took(took)
	}
}

// clientVersionsMax bounds how many versions of clients are told apart; what a client says of itself is its own choice.
const clientVersionsMax = 32

// clientVersions counts calls by what clients say of themselves.
type clientVersions struct {
	mu sync.Mutex // taken to make a version known
	by atomic.Pointer[map[clientVersion]*atomic.Uint64]
}

// versionUnknown stands for clients that say nothing. etcd's word.
const versionUnknown = "unknown"

type clientVersion struct{ kind, version string }

// count counts a call, or says that what its client says is no version.
func (c *clientVersions) count(ctx context.Context, kind string) error {
	version := versionUnknown
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey); len(v) > 0 {
		version = v[0]
	}
	n, known := (*c.by.Load())[clientVersion{kind, version}]
	if !known {
		if !utf8.ValidString(version) {
			return rpctypes.ErrGRPCInvalidClientAPIVersion
		}
		n = c.learn(clientVersion{kind, version})
	}
	n.Add(1)
	return nil
}

func (c *clientVersions) learn(v clientVersion) *atomic.Uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := *c.by.Load()
	if len(known) >= clientVersionsMax && v.version != versionUnknown {
		v.version = "other"
	}
	v.version = strings.Clone(v.version)
	if n := known[v]; n != nil {
		return n
	}
	more := map[clientVersion]*atomic.Uint64{v: new(atomic.Uint64)}
	for k, n := range known {
		more[k] = n
	}
	c.by.Store(&more)
	return more[v]
}

// sampleLogIns shows who has come to log in.
func (a *API) sampleLogIns(s *metrics.Sample) {
	if a.cfg.Logins == nil {
		return
	}
	st := a.cfg.Logins.Stats()
	s.Set(metrics.Tokens, float64(st.Tokens))
	s.Set(metrics.LogIns, float64(st.Accepted), "accepted")
	s.Set(metrics.LogIns, float64(st.Refused), "refused")
	s.Set(metrics.PasswordChecks, float64(st.Checks))
}

// sample shows what was counted.
func (c *callStats) sample(s *metrics.Sample) {
	for _, m := range c.methods {
		s.Set(metrics.CallsStarted, float64(m.started.Load()), m.kind, m.service, m.name)
		s.Set(metrics.MessagesReceived, float64(m.received.Load()), m.kind, m.service, m.name)
		s.Set(metrics.MessagesSent, float64(m.sent.Load()), m.kind, m.service, m.name)
		for code := range codesKnown {
			s.Set(metrics.CallsHandled, float64(m.handled[code].Load()), m.kind, m.service, m.name, codes.Code(code).String())
		}
	}
	for v, n := range *c.clients.by.Load() {
		s.Set(metrics.ClientRequests, float64(n.Load()), v.kind, v.version)
	}
	s.Set(metrics.ClientBytesSent, float64(c.sentBytes.Load()))
	s.Set(metrics.ClientBytesReceived, float64(c.receivedBytes.Load()))
}

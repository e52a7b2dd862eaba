// Package calls looks at every call of a client, whatever it asks: a Guard refuses those beyond what the member can have under way, Stats
// count what comes of the others.
package calls

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/metrics"
	"holdfast/watch"
)

// Stats counts calls as the library does that etcd uses, but each method has its counters ready: a call costs one look into
// a map that never changes and a few additions.
type Stats struct {
	methods map[string]*methodStats // by full name
	clients clientVersions

	sentBytes, receivedBytes atomic.Uint64 // of messages

	// streamFailures are streams that did not end by their client's leaving.
	streamFailures *metrics.Counters

	watchSend, watchSendPerEvent, watchSendControl, watchSendProgress *metrics.Histogram

	started time.Time
}

// Time is how long the API has been there. It costs half of what time.Now does: nobody asks for the date.
func (s *Stats) Time() time.Duration { return time.Since(s.started) }

// methodStats counts the calls of one method.
type methodStats struct {
	kind, service, name string

	started, received, sent atomic.Uint64
	handled                 [codesKnown]atomic.Uint64 // by code
	took                    *metrics.Histogram        // nil: not timed
}

// codesKnown is how many codes gRPC has.
const codesKnown = int(codes.Unauthenticated) + 1

// NewStats makes what shows itself in set, once it knows the methods.
func NewStats(set *metrics.Set) *Stats {
	s := &Stats{
		started:        time.Now(),
		streamFailures: set.Counters(metrics.StreamFailures),
		watchSend:      set.Histogram(metrics.WatchSend), watchSendPerEvent: set.Histogram(metrics.WatchSendPerEvent),
		watchSendControl: set.Histogram(metrics.WatchSendControl), watchSendProgress: set.Histogram(metrics.WatchSendProgress),
	}
	s.clients.by.Store(&map[clientVersion]*atomic.Uint64{})
	return s
}

// Know makes the counters of all methods of a server, which takes no more services after that.
func (s *Stats) Know(server *grpc.Server, set *metrics.Set) {
	s.methods = map[string]*methodStats{}
	var took *metrics.Histograms
	if set.Extensive() {
		took = set.Histograms(metrics.CallDuration)
	}
	for service, info := range server.GetServiceInfo() {
		for _, m := range info.Methods {
			stats := &methodStats{kind: kindOf(m), service: service, name: m.Name}
			if took != nil {
				stats.took = took.With(stats.kind, service, m.Name)
			}
			s.methods["/"+service+"/"+m.Name] = stats
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

// Call is one that is under way, and counted when it is over.
type Call struct {
	of    *methodStats
	began time.Time // 0: not timed
}

// Begin counts a call that begins.
func (s *Stats) Begin(method string) Call {
	c := Call{of: s.methods[method]}
	c.of.started.Add(1)
	if c.of.took != nil {
		c.began = time.Now()
	}
	return c
}

// End counts a call that ends, under the code that gRPC makes of its error.
func (c Call) End(err error) {
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
	c.of.handled[code].Add(1)
	if c.of.took != nil {
		c.of.took.Took(time.Since(c.began))
	}
}

// BeginUnary is Begin for a call of one request and one answer.
func (s *Stats) BeginUnary(method string) Call {
	c := s.Begin(method)
	c.of.received.Add(1)
	return c
}

// EndUnary is End for a call of one request and one answer. An error counts as one, too.
func (c Call) EndUnary(err error) {
	c.of.sent.Add(1)
	c.End(err)
}

// Stream counts what goes over the stream of a call.
func (c Call) Stream(s grpc.ServerStream) grpc.ServerStream { return countedStream{s, c.of} }

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

// Received counts the bytes of a message that came.
func (s *Stats) Received(n int) { s.receivedBytes.Add(uint64(n)) }

// Sent counts the bytes of a message that goes.
func (s *Stats) Sent(n int) { s.sentBytes.Add(uint64(n)) }

// Client counts a call by what its client says of itself, or tells that this is no version. kind is unary or stream.
func (s *Stats) Client(ctx context.Context, kind string) error { return s.clients.count(ctx, kind) }

// Failed counts the failure of a stream of an API, unless it is the client's leaving.
func (s *Stats) Failed(ctx context.Context, direction, api string, err error) {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled {
		return
	}
	s.streamFailures.Inc(direction, api)
}

// WatchSent counts a message to a watching client that took so long to be found and sent.
func (s *Stats) WatchSent(r *watch.Response, took time.Duration) {
	switch {
	case len(r.Events) > 0:
		s.watchSend.Took(took)
		s.watchSendPerEvent.Took(took / time.Duration(len(r.Events)))
	case r.Created || r.Canceled:
		s.watchSendControl.Took(took)
	default:
		s.watchSendProgress.Took(took)
	}
}

// WatchSentTogether counts messages with events that went to a watching client past SendMsg: on a stream of method, so many with so many events and bytes in all,
// which took so long to be found and sent.
func (s *Stats) WatchSentTogether(method string, messages, events, bytes int, took time.Duration) {
	s.methods[method].sent.Add(uint64(messages))
	s.Sent(bytes)
	s.watchSend.TookEach(took/time.Duration(messages), messages)
	s.watchSendPerEvent.TookEach(took/time.Duration(events), messages)
}

// Sample shows what was counted.
func (s *Stats) Sample(into *metrics.Sample) {
	for _, m := range s.methods {
		into.Set(metrics.CallsStarted, float64(m.started.Load()), m.kind, m.service, m.name)
		into.Set(metrics.MessagesReceived, float64(m.received.Load()), m.kind, m.service, m.name)
		into.Set(metrics.MessagesSent, float64(m.sent.Load()), m.kind, m.service, m.name)
		for code := range codesKnown {
			into.Set(metrics.CallsHandled, float64(m.handled[code].Load()), m.kind, m.service, m.name, codes.Code(code).String())
		}
	}
	for v, n := range *s.clients.by.Load() {
		into.Set(metrics.ClientRequests, float64(n.Load()), v.kind, v.version)
	}
	into.Set(metrics.ClientBytesSent, float64(s.sentBytes.Load()))
	into.Set(metrics.ClientBytesReceived, float64(s.receivedBytes.Load()))
}

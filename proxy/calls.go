package proxy

import (
	"context"
	"path"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"holdfast/metrics"
)

// callStats counts calls as a member does.
type callStats struct {
	started, handled, received, sent *metrics.Counters
}

func newCallStats(set *metrics.Set) *callStats {
	return &callStats{
		started: set.Counters(metrics.CallsStarted), handled: set.Counters(metrics.CallsHandled),
		received: set.Counters(metrics.MessagesReceived), sent: set.Counters(metrics.MessagesSent),
	}
}

// split gives service and method of a full name.
func split(full string) (service, method string) {
	return strings.TrimPrefix(path.Dir(full), "/"), path.Base(full)
}

func (c *callStats) unary(ctx context.Context, q any, info *grpc.UnaryServerInfo, run grpc.UnaryHandler) (any, error) {
	service, method := split(info.FullMethod)
	c.started.Inc("unary", service, method)
	c.received.Inc("unary", service, method)
	answer, err := run(ctx, q)
	c.sent.Inc("unary", service, method)
	c.handled.Inc("unary", service, method, status.Code(err).String())
	return answer, err
}

func (c *callStats) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, run grpc.StreamHandler) error {
	service, method := split(info.FullMethod)
	kind := kindOf(info.FullMethod)
	if kind == "" {
		return run(srv, stream) // what no service has is refused; clients may make up names
	}
	c.started.Inc(kind, service, method)
	err := run(srv, noted{stream, func(what any, sent bool) {
		if sent {
			c.sent.Inc(kind, service, method)
		} else {
			c.received.Inc(kind, service, method)
		}
	}})
	c.handled.Inc(kind, service, method, status.Code(err).String())
	return err
}

// methodOf is what etcd's messages say of a method; nil is nothing. Locks and elections have messages of our own, which do not
// name their services.
func methodOf(full string) protoreflect.MethodDescriptor {
	service, method := split(full)
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil
	}
	s, is := d.(protoreflect.ServiceDescriptor)
	if !is {
		return nil
	}
	return s.Methods().ByName(protoreflect.Name(method))
}

// kindOf is the form of a call in metrics; "" is a method that nobody has.
func kindOf(full string) string {
	m := methodOf(full)
	if m == nil {
		return lockKinds[full]
	}
	switch {
	case m.IsStreamingClient() && m.IsStreamingServer():
		return "bidi_stream"
	case m.IsStreamingClient():
		return "client_stream"
	case m.IsStreamingServer():
		return "server_stream"
	}
	return "unary"
}

// lockKinds are the forms of the methods that methodOf does not know.
var lockKinds = map[string]string{
	"/v3lockpb.Lock/Lock": "unary", "/v3lockpb.Lock/Unlock": "unary",
	"/v3electionpb.Election/Campaign": "unary", "/v3electionpb.Election/Proclaim": "unary", "/v3electionpb.Election/Leader": "unary",
	"/v3electionpb.Election/Resign": "unary", "/v3electionpb.Election/Observe": "server_stream",
}

// noted tells of each message that goes over a stream.
type noted struct {
	grpc.ServerStream
	note func(m any, sent bool)
}

// RecvMsg implements grpc.ServerStream.
func (s noted) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.note(m, false)
	}
	return err
}

// SendMsg implements grpc.ServerStream.
func (s noted) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.note(m, true)
	}
	return err
}

// logUnary logs what is asked and answered.
func (p *Proxy) logUnary(ctx context.Context, q any, info *grpc.UnaryServerInfo, run grpc.UnaryHandler) (any, error) {
	p.logMessage(ctx, info.FullMethod, q, false, nil)
	answer, err := run(ctx, q)
	p.logMessage(ctx, info.FullMethod, answer, true, err)
	return answer, err
}

func (p *Proxy) logStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, run grpc.StreamHandler) error {
	return run(srv, noted{stream, func(m any, sent bool) { p.logMessage(stream.Context(), info.FullMethod, m, sent, nil) }})
}

// withheld stands in the log for messages that may hold passwords and tokens.
const withheld = "(withheld)"

func (p *Proxy) logMessage(ctx context.Context, method string, m any, sent bool, err error) {
	service, name := split(method)
	kind, text := "request", "received payload logged as grpc.request.content field"
	if sent {
		kind, text = "response", "returned response payload logged as grpc.response.content field"
	}
	from := ""
	if who, ok := peer.FromContext(ctx); ok {
		from = who.Addr.String()
	}
	args := []any{"grpc.service", service, "grpc.method", name, "peer.address", from, "grpc." + kind + ".content", content(method, m, sent)}
	if err != nil {
		args = append(args, "grpc."+kind+".error", err)
	}
	p.log.Info(text, args...)
}

// content is a message as JSON.
func content(method string, m any, sent bool) string {
	if strings.HasPrefix(method, "/etcdserverpb.Auth/") {
		return withheld
	}
	message, is := m.(proto.Message)
	if f, raw := m.(*frame); raw {
		message, is = decoded(method, f.body, sent)
	}
	if !is || message == nil || !message.ProtoReflect().IsValid() {
		return ""
	}
	text, err := protojson.Marshal(message)
	if err != nil {
		return ""
	}
	return string(text)
}

// decoded is a forwarded message, if its type is known.
func decoded(method string, body []byte, sent bool) (proto.Message, bool) {
	d := methodOf(method)
	if d == nil {
		return nil, false
	}
	name := d.Input().FullName()
	if sent {
		name = d.Output().FullName()
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, false
	}
	m := t.New().Interface()
	return m, proto.Unmarshal(body, m) == nil
}

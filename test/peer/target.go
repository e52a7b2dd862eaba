package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"holdfast/test/run"
)

const (
	clients     = 4                // connections to each side; operations are spread over them
	callTimeout = 30 * time.Second // an answer that takes longer is a difference in itself
)

// A Side is what operations are sent to: one server, or several members of a cluster.
type Side interface {
	// Clients returns the addresses of those who serve, at least one; the connections are dealt out over them.
	Clients() []string
	Kill()
	Stop() error
	Restart(ctx context.Context) error
	LogTail(lines int) string
}

// single is a side of one server.
type single struct{ *run.Server }

func (s single) Clients() []string { return []string{s.Client} }

// A target is one of the two sides under comparison and the connections to it.
type target struct {
	name    string
	dir     string // where the files of the side may be put
	server  Side
	members int // how many serve; connection i goes to member i modulo members
	conns   []*grpc.ClientConn
	ids     []memberID // of the member behind each connection; empty when they are not checked
	last    int        // the connection that served the last operation
	// identity is what the harness' own questions carry; nil while authentication is off.
	identity metadata.MD
	tamper   Tamper      // nil except in tests of this package
	json     bool        // calls that are no streams go through the JSON gateway
	tls      *tls.Config // nil: plaintext
	web      http.Client
	calls    atomic.Uint32 // made in JSON
}

// Tamper may change what a server answered before it is compared; the tests of this package plant differences with it.
// A nil message comes with the error's text, whose replacement it returns.
type Tamper func(method string, m proto.Message, text string) string

// An answer is all that came back for one call: the messages in order, then the status.
type answer struct {
	chunks   int // of a RangeStream, which is compared joined; 0 for anything else
	messages []proto.Message
	code     codes.Code
	text     string
}

// only returns the message of a call that answered with exactly one, nil for an error.
func (a answer) only() proto.Message {
	if len(a.messages) != 1 {
		return nil
	}
	return a.messages[0]
}

func (a answer) String() string {
	var b strings.Builder
	if a.code != codes.OK {
		fmt.Fprintf(&b, "%s %q", a.code, a.text)
	}
	for _, m := range a.messages {
		fmt.Fprintf(&b, "{%s}", short(m))
	}
	return b.String()
}

// connect opens the connections; receive limits are lifted because answers may be of any size.
func (t *target) connect() error {
	t.close()
	addresses := t.server.Clients()
	t.members = len(addresses)
	creds := insecure.NewCredentials()
	if t.tls != nil {
		creds = credentials.NewTLS(t.tls)
	}
	for i := range clients {
		conn, err := grpc.NewClient(addresses[i%t.members],
			grpc.WithTransportCredentials(creds),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
			grpc.WithDisableServiceConfig())
		if err != nil {
			return fmt.Errorf("connect to %s: %w", t.name, err)
		}
		t.conns = append(t.conns, conn)
	}
	return nil
}

func (t *target) close() {
	for _, c := range t.conns {
		_ = c.Close() // only ever refused when closed already
	}
	t.web.CloseIdleConnections()
	t.conns, t.ids = nil, nil
}

// base is the URL of one of those who serve.
func (t *target) base(conn int) string {
	scheme := "http://"
	if t.tls != nil {
		scheme = "https://"
	}
	return scheme + t.server.Clients()[conn%t.members]
}

// method describes a gRPC method by its path, "/etcdserverpb.KV/Range".
type method struct {
	path   string
	output protoreflect.MessageType
	stream grpc.StreamDesc
}

// descriptorOf looks path up in etcd's generated descriptors; a method nobody has is nil.
func descriptorOf(path string) protoreflect.MethodDescriptor {
	service, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	d := pb.File_rpc_proto.Services().ByName(protoreflect.Name(strings.TrimPrefix(service, "etcdserverpb.")))
	if d == nil {
		return nil
	}
	return d.Methods().ByName(protoreflect.Name(name))
}

// methodOf returns the method at path, which must exist.
func methodOf(path string) method {
	d := descriptorOf(path)
	name := string(d.Name())
	output, err := protoregistry.GlobalTypes.FindMessageByName(d.Output().FullName())
	if err != nil {
		panic(fmt.Sprintf("peer: method %s: %v", path, err))
	}
	return method{
		path:   path,
		output: output,
		stream: grpc.StreamDesc{StreamName: name, ServerStreams: d.IsStreamingServer(), ClientStreams: d.IsStreamingClient()},
	}
}

// parsed returns what a server makes of the bytes of a request, nil when it makes nothing of them.
func parsed(path string, request []byte) proto.Message {
	d := descriptorOf(path)
	if d == nil {
		return nil
	}
	input, err := protoregistry.GlobalTypes.FindMessageByName(d.Input().FullName())
	if err != nil {
		panic(fmt.Sprintf("peer: method %s: %v", path, err))
	}
	m := input.New().Interface()
	if proto.Unmarshal(request, m) != nil {
		return nil
	}
	return m
}

// call sends requests on a connection and collects what comes back. A method without streams is a stream of one.
func (t *target) call(conn int, path string, md metadata.MD, requests ...proto.Message) answer {
	if t.json && len(requests) == 1 {
		if a, served := t.callJSON(conn, path, md, requests[0]); served {
			return a
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if md != nil {
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	m := methodOf(path)
	stream, err := t.conns[conn].NewStream(ctx, &m.stream, path, grpc.WaitForReady(true))
	if err != nil {
		return t.ended(path, nil, err)
	}
	for _, r := range requests {
		if err := stream.SendMsg(r); err != nil {
			break // the status comes with the next receive
		}
	}
	_ = stream.CloseSend() // reports nothing that the next receive does not
	var got []proto.Message
	for {
		reply := m.output.New().Interface()
		if err := stream.RecvMsg(reply); err != nil {
			return t.ended(path, got, err)
		}
		if t.tamper != nil {
			t.tamper(path, reply, "")
		}
		if err := t.checkOrigin(conn, reply); err != nil {
			return answer{code: codes.DataLoss, text: err.Error()}
		}
		got = append(got, reply)
		if !m.stream.ServerStreams {
			return answer{messages: got}
		}
	}
}

// ended makes the answer of a call that returned err after the messages got.
func (t *target) ended(path string, got []proto.Message, err error) answer {
	if errors.Is(err, io.EOF) {
		return answer{messages: got}
	}
	s := status.Convert(err)
	a := answer{messages: got, code: s.Code(), text: s.Message()}
	if t.tamper != nil {
		a.text = t.tamper(path, nil, a.text)
	}
	return a
}

// callRaw sends bytes as the request of a unary method, with no regard to whether they parse.
func (t *target) callRaw(conn int, path string, request []byte) answer {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var reply []byte
	err := t.conns[conn].Invoke(ctx, path, request, &reply, grpc.ForceCodec(rawCodec{}), grpc.WaitForReady(true))
	if err != nil {
		return t.ended(path, nil, err)
	}
	m := methodOf(path).output.New().Interface()
	if err := proto.Unmarshal(reply, m); err != nil {
		return answer{code: codes.DataLoss, text: fmt.Sprintf("peer: the answer does not parse: %v", err)}
	}
	if t.tamper != nil {
		t.tamper(path, m, "")
	}
	return answer{messages: []proto.Message{m}}
}

// rawCodec passes bytes through: a request is a []byte, an answer a *[]byte.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

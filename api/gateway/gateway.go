// Package gateway takes JSON over HTTP, or over a WebSocket, and makes calls of gRPC of it. The calls take the way of all others,
// over a connection within the process: what is checked, counted and refused there needs no second form here. Only ranges are asked
// for without that connection (range.go).
//
//	Source   etcd v3 API, the annotations google.api.http; the generated handlers of package gw
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
)

// services register the paths of each service.
var services = []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
	gw.RegisterKVHandler, gw.RegisterWatchHandler, gw.RegisterLeaseHandler,
	gw.RegisterClusterHandler, gw.RegisterMaintenanceHandler, gw.RegisterAuthHandler, registerRecipes,
}

// openEnded are the paths whose requests are many messages, with answers in between. Their bodies may last as long as their client
// likes; all others have bodyTimeout.
var openEnded = map[string]bool{"/v3/watch": true, "/v3/lease/keepalive": true}

// bodyTimeout is how long a client may take to send the one message of a call. It is for slow lines: 2 MB take so long at 270 kbit/s.
const bodyTimeout = time.Minute

// Buffers of the connection within the process: what one side may be ahead of the other, on the whole and for one call. A slow
// reader of a watch over HTTP costs callWindow.
const (
	connBuffer = 256 << 10
	callWindow = 256 << 10
)

// Config says what a gateway takes.
type Config struct {
	// MessageBytesMax is what gRPC lets a message have; in JSON it may be bodyFactor times as long.
	MessageBytesMax int
	// BodyBytes bounds what the requests hold together; 0 is bodyBytesDefault.
	BodyBytes int64
	// Range answers an encoded RangeRequest as gRPC would, whose metadata ctx has; errors are statuses. Of the encoded answer every
	// buffer holds whole fields. One with less data than its length says that the answer breaks off. All are to be freed.
	Range func(ctx context.Context, request []byte) (mem.BufferSlice, error)
	// SocketOrigin tells whether the page that a request comes from may open a WebSocket.
	SocketOrigin func(*http.Request) bool
}

// Gateway serves the API as JSON.
type Gateway struct {
	calls   *grpc.ClientConn
	within  *bufconn.Listener // where calls arrive; to be served
	mux     *runtime.ServeMux
	bodies  *bodies
	upgrade websocket.Upgrader

	askForRange func(ctx context.Context, request []byte) (mem.BufferSlice, error)
	ranges      sync.WaitGroup // being answered

	// Of WebSockets, which net/http does not look after once they are such: end cuts those that are left, sockets waits for them.
	ctx     context.Context
	end     context.CancelFunc
	sockets sync.WaitGroup
}

// New makes a gateway. Its calls wait until somebody serves Calls.
func New(cfg Config) (*Gateway, error) {
	g := &Gateway{
		within: bufconn.Listen(connBuffer), askForRange: cfg.Range,
		bodies: newBodies(bodyFactor*int64(cfg.MessageBytesMax), cmp.Or(cfg.BodyBytes, bodyBytesDefault)),
	}
	g.upgrade = websocket.Upgrader{CheckOrigin: cfg.SocketOrigin}
	g.ctx, g.end = context.WithCancel(context.Background())
	var err error
	g.calls, err = grpc.NewClient("passthrough:///gateway",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // within the process
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return g.within.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithInitialWindowSize(callWindow), grpc.WithInitialConnWindowSize(4*callWindow),
		grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0))
	if err != nil {
		return nil, fmt.Errorf("connect the JSON gateway: %w", err)
	}
	g.mux = runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, newMarshaler()), runtime.WithErrorHandler(answerError))
	for _, register := range services {
		if err := register(g.ctx, g.mux, g.calls); err != nil {
			return nil, errors.Join(fmt.Errorf("make the JSON gateway: %w", err), g.calls.Close())
		}
	}
	if err := g.mux.HandlePath(http.MethodPost, rangePath, g.serveRange); err != nil { // goes before the generated one
		return nil, errors.Join(fmt.Errorf("make the JSON gateway: %w", err), g.calls.Close())
	}
	return g, nil
}

// Calls is where the calls arrive. Whoever serves it closes it.
func (g *Gateway) Calls() net.Listener { return g.within }

// Held is how many bytes of requests are in memory.
func (g *Gateway) Held() int64 { return g.bodies.held() }

// marshaler is the form of etcd's JSON: names as in the .proto, nothing that is zero, what is unknown is passed over.
type marshaler struct{ *runtime.HTTPBodyMarshaler }

func newMarshaler() marshaler {
	return marshaler{&runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}}}
}

// NewDecoder implements runtime.Marshaler: it tells a body where a message begins.
func (m marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	decoder := m.HTTPBodyMarshaler.NewDecoder(r)
	return runtime.DecoderFunc(func(v any) error {
		if b, bounded := r.(*body); bounded {
			b.next()
		}
		err := decoder.Decode(v)
		if err != nil && !errors.Is(err, io.EOF) && holdsPassword(v) {
			return fmt.Errorf("proto: %s: %w", position.FindString(err.Error()), errUnreadableSecret)
		}
		return err
	})
}

// errUnreadableSecret takes the place of the decoder's words, which repeat what it could not read.
var errUnreadableSecret = errors.New("the request cannot be read; it is not repeated here because it may hold a password")

// position is where the decoder stopped, in its words.
var position = regexp.MustCompile(`\(line [0-9]+:[0-9]+\)|$`)

// holdsPassword tells whether a message has a field for a password.
func holdsPassword(v any) bool {
	switch v.(type) {
	case *pb.AuthenticateRequest, *pb.AuthUserAddRequest, *pb.AuthUserChangePasswordRequest:
		return true
	}
	return false
}

// answerError answers with what went wrong. That a body was refused comes to it as a mistake in the JSON.
func answerError(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if b, bounded := r.Body.(*body); bounded {
		if why := b.why(); why != nil {
			err = why
		}
	}
	runtime.DefaultHTTPErrorHandler(ctx, mux, m, w, r, err)
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if websocket.IsWebSocketUpgrade(r) {
		g.serveSocket(w, r)
		return
	}
	control := http.NewResponseController(w)
	b := &body{from: r.Body, all: g.bodies}
	if openEnded[r.URL.Path] {
		// Otherwise net/http reads all of the request before it sends the first answer, for which the client may be waiting.
		ignoreUnsupported(control.EnableFullDuplex())
	} else {
		// The deadline must not outlast the body: net/http would take its passing for the end of the connection.
		ignoreUnsupported(control.SetReadDeadline(time.Now().Add(bodyTimeout)))
		b.onEnd = func() { ignoreUnsupported(control.SetReadDeadline(time.Time{})) }
	}
	g.serve(w, r, b)
}

// serve answers a request whose body is b.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, b *body) {
	defer b.release()
	r.Body = b
	g.mux.ServeHTTP(w, r)
}

// ignoreUnsupported is for what is not needed where it does not exist: on a connection that is gone, or on none at all.
func ignoreUnsupported(error) {}

// Close ends what is left of the gateway's connections, and waits for it.
func (g *Gateway) Close() error {
	g.end()
	g.sockets.Wait()
	g.ranges.Wait()
	return g.calls.Close()
}

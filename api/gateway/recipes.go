package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/api/lockpb"
)

// The paths of locks and elections. Their messages are our own (package lockpb), and so is what is generated for those of etcd.

// registerRecipes gives the gateway the paths of both services.
func registerRecipes(_ context.Context, mux *runtime.ServeMux, conn *grpc.ClientConn) error {
	g := jsonCalls{mux, conn}
	return errors.Join(
		serveJSON[lockpb.LockRequest, lockpb.LockResponse](g, "/v3/lock/lock", lockpb.LockService+"/Lock", g.one),
		serveJSON[lockpb.UnlockRequest, lockpb.UnlockResponse](g, "/v3/lock/unlock", lockpb.LockService+"/Unlock", g.one),
		serveJSON[lockpb.CampaignRequest, lockpb.CampaignResponse](g, "/v3/election/campaign", lockpb.ElectionService+"/Campaign", g.one),
		serveJSON[lockpb.ProclaimRequest, lockpb.ProclaimResponse](g, "/v3/election/proclaim", lockpb.ElectionService+"/Proclaim", g.one),
		serveJSON[lockpb.LeaderRequest, lockpb.LeaderResponse](g, "/v3/election/leader", lockpb.ElectionService+"/Leader", g.one),
		serveJSON[lockpb.ResignRequest, lockpb.ResignResponse](g, "/v3/election/resign", lockpb.ElectionService+"/Resign", g.one),
		serveJSON[lockpb.LeaderRequest, lockpb.LeaderResponse](g, "/v3/election/observe", lockpb.ElectionService+"/Observe", g.many),
	)
}

// jsonCalls makes calls of requests in JSON.
type jsonCalls struct {
	mux  *runtime.ServeMux
	conn *grpc.ClientConn
}

// jsonCall is one call: its method, its request, and how to make an empty answer.
type jsonCall struct {
	method  string
	request proto.Message
	answer  func() proto.Message
}

// serveJSON has requests Q to a path answered by run.
func serveJSON[Q, A any, PQ message[Q], PA message[A]](
	g jsonCalls, path, method string, run func(context.Context, runtime.Marshaler, http.ResponseWriter, *http.Request, *jsonCall) error,
) error {
	method = "/" + method
	return g.mux.HandlePath(http.MethodPost, path, func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		in, out := runtime.MarshalerForRequest(g.mux, r)
		ctx, err := runtime.AnnotateContext(ctx, g.mux, r, method, runtime.WithHTTPPathPattern(path))
		c := &jsonCall{method: method, request: PQ(new(Q)), answer: func() proto.Message { return PA(new(A)) }}
		if err == nil {
			err = readJSON(in, r.Body, c.request)
		}
		if err == nil {
			err = run(ctx, out, w, r, c)
		}
		if err != nil {
			runtime.HTTPError(ctx, g.mux, out, w, r, err)
		}
	})
}

// message is a pointer to a generated struct.
type message[T any] interface {
	*T
	proto.Message
}

// readJSON reads a body. An empty one is an empty message.
func readJSON(m runtime.Marshaler, body io.Reader, into proto.Message) error {
	if err := m.NewDecoder(body).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, fmt.Sprint(err))
	}
	_, err := io.Copy(io.Discard, body) // so that the connection can be used again
	return err
}

// one makes a call with one answer.
func (g jsonCalls) one(ctx context.Context, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, c *jsonCall) error {
	answer, head := c.answer(), runtime.ServerMetadata{}
	if err := g.conn.Invoke(ctx, c.method, c.request, answer, grpc.Header(&head.HeaderMD), grpc.Trailer(&head.TrailerMD)); err != nil {
		return err
	}
	ctx = runtime.NewServerMetadataContext(ctx, head)
	runtime.ForwardResponseMessage(ctx, g.mux, m, w, r, answer, g.mux.GetForwardResponseOptions()...)
	return nil
}

// many makes a call with answers until its client has enough.
func (g jsonCalls) many(ctx context.Context, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, c *jsonCall) error {
	stream, err := g.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, c.method)
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(c.request), stream.CloseSend()); err != nil {
		return err
	}
	head, err := stream.Header()
	if err != nil {
		return err
	}
	ctx = runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{HeaderMD: head})
	runtime.ForwardResponseStream(ctx, g.mux, m, w, r, func() (proto.Message, error) {
		answer := c.answer()
		return answer, stream.RecvMsg(answer)
	}, g.mux.GetForwardResponseOptions()...)
	return nil
}

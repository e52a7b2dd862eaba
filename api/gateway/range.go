package gateway

import (
	"context"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A range may be larger than the memory there is. The connection within the process would make a whole message of it, and the generated
// handlers a whole text; so it is asked for directly, and becomes JSON piece by piece as it is read.

const rangePath = "/v3/kv/range"

// rangeHead is what HTTP's clients see of the head of an answer of gRPC's. An error has none: gRPC sends it in a trailer alone.
const rangeHead = runtime.MetadataHeaderPrefix + "Content-Type"

// serveRange answers a range.
func (g *Gateway) serveRange(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	g.ranges.Add(1)
	defer g.ranges.Done()
	ctx, cancel := context.WithCancel(runtime.NewServerMetadataContext(r.Context(), runtime.ServerMetadata{}))
	defer cancel()
	_, out := runtime.MarshalerForRequest(g.mux, r)
	pieces, err := g.askRange(ctx, r)
	if err != nil {
		runtime.HTTPError(ctx, g.mux, out, w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(rangeHead, "application/grpc")
	if sent, err := sendRange(w, pieces); err != nil {
		grpclog.Errorf("Failed to write response: %v", err)
		if !sent {
			w.Header().Del(rangeHead)
			runtime.HTTPError(ctx, g.mux, out, w, r, err)
			return
		}
		panic(http.ErrAbortHandler) // nobody must take the part for the whole
	}
}

// askRange makes the call of a request.
func (g *Gateway) askRange(ctx context.Context, r *http.Request) (mem.BufferSlice, error) {
	in, _ := runtime.MarshalerForRequest(g.mux, r)
	ctx, err := runtime.AnnotateIncomingContext(ctx, g.mux, r, pb.KV_Range_FullMethodName, runtime.WithHTTPPathPattern(rangePath))
	if err != nil {
		return nil, err
	}
	var q pb.RangeRequest
	if err := readJSON(in, r.Body, &q); err != nil {
		return nil, err
	}
	body, err := proto.Marshal(&q)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error()) // as gRPC says it
	}
	return g.askForRange(ctx, body)
}

// sendRange sends an encoded answer in JSON, and tells whether some of it has been sent.
func sendRange(w http.ResponseWriter, pieces mem.BufferSlice) (sent bool, err error) {
	j := rangeJSON{to: w}
	for i, piece := range pieces {
		data := piece.ReadOnlyData()
		if len(data) != piece.Len() {
			err = errBrokenOff
		} else {
			err = j.add(data)
		}
		piece.Free()
		if err != nil {
			pieces[i+1:].Free()
			return j.sent, err
		}
	}
	return j.sent, j.end()
}

var errBrokenOff = status.Error(codes.Unavailable, "holdfast: the answer could not be read to its end")

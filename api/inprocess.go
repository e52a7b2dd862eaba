package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// rangeHandler is the handler of ranges.
var rangeHandler = kvService.Methods[0].Handler

// rangeInProcess answers a range of the JSON gateway. It takes the way of a call without gRPC's transport: it is admitted, counted and
// checked as they are, and its answer is among those that share a bound (answers.go).
func (a *API) rangeInProcess(ctx context.Context, request []byte) (_ mem.BufferSlice, err error) {
	if max := a.cfg.RequestBytesMax + requestExtra; len(request) > max {
		return nil, status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", len(request), max)
	}
	ctx, err = a.guard.Admit(ctx, &tap.Info{FullMethodName: pb.KV_Range_FullMethodName})
	if err != nil {
		return nil, err
	}
	if a.cfg.Tracing != nil {
		inner, span := a.cfg.Tracing.Begin(ctx, pb.KV_Range_FullMethodName[1:]) // as gRPC's own is called
		ctx = inner
		defer func() { span.End(err) }()
	}
	c := newCodec(a.stats)
	read := func(q any) error { return c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(request)}, q) }
	answer, err := rangeHandler(a, ctx, read, a.countUnary)
	if err != nil {
		if _, is := status.FromError(err); !is {
			err = status.FromContextError(err).Err()
		}
		return nil, err
	}
	if parts, is := answer.(outbound); is { // a row may lie in two of them; they are small
		body, err := wholeOf(parts)
		if err != nil {
			return nil, err
		}
		answer = encoded([][]byte{body})
	}
	return c.Marshal(answer)
}

package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// fakeStream is the server's side of a stream whose client is a pair of functions.
type fakeStream struct {
	grpc.ServerStream
	ctx  context.Context
	recv func(any) error
	send func(any) error
}

// Context implements grpc.ServerStream.
func (s *fakeStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *fakeStream) RecvMsg(m any) error { return s.recv(m) }

// SendMsg implements grpc.ServerStream.
func (s *fakeStream) SendMsg(m any) error { return s.send(m) }

func buffers(body []byte) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(body)} }

// raw sends and receives bytes as they are.
type raw struct{ encoding.CodecV2 }

func rawCodec() grpc.CallOption { return grpc.ForceCodecV2(raw{}) }

// Name implements encoding.CodecV2: the server must take it for protobuf.
func (raw) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (raw) Marshal(v any) (mem.BufferSlice, error) { return buffers(*v.(*[]byte)), nil }

// Unmarshal implements encoding.CodecV2.
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func rangeOp(q *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: q}}
}

func putOp(key, value []byte, lease int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value, Lease: lease}}}
}

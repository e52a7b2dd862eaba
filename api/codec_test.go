package api

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"holdfast/api/calls"
	"holdfast/kv"
)

// BenchmarkCodec asks what the codec adds to a call: reading a put of 256 B and the API server's update of 1 KB into the entries they
// will become, and the answer that is a page of 500 rows of 1 KB. Expected: a copy, two allocations and some 100 ns for the put, 300 ns for the
// update; the page costs per chunk, not per row, for its rows come encoded.
func BenchmarkCodec(b *testing.B) {
	value := make([]byte, 1<<10)
	put := &pb.PutRequest{Key: []byte("/registry/pods/default/pod"), Value: value[:256]}
	update := &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: put.Key, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: 1 << 30},
		}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: put.Key, Value: value}}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: put.Key}}}},
	}
	b.Run("put", func(b *testing.B) {
		benchmarkRead(b, put, func() inbound { return &putCall{} })
	})
	b.Run("update", func(b *testing.B) {
		benchmarkRead(b, update, func() inbound { return &txnCall{} })
	})
	b.Run("page", func(b *testing.B) {
		row := (&kv.KeyValue{Key: put.Key, Value: value, Create: 1, Mod: 2, Version: 2}).Append(nil)
		b.ReportAllocs()
		b.SetBytes(int64(500 * len(row)))
		for b.Loop() {
			r := kv.RangeResult{Count: 100_000}
			for range 500 {
				r.Rows.Append(row)
			}
			if _, err := newCodec(&calls.Stats{}).Marshal(outbound(r.Encode(kv.Header{Revision: 3}))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// benchmarkRead reads what came from the wire into calls that fresh makes.
func benchmarkRead(b *testing.B, message proto.Message, fresh func() inbound) {
	text, err := proto.Marshal(message)
	if err != nil {
		b.Fatal(err)
	}
	c, wire := newCodec(&calls.Stats{}), mem.BufferSlice{mem.SliceBuffer(text)}
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := c.Unmarshal(wire, fresh()); err != nil {
			b.Fatal(err)
		}
	}
}

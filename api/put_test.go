package api

import (
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// BenchmarkPutCall is a put of 256 B with all that it takes behind gRPC, from decoding to the bytes of the answer, 200 at a time. What it
// allocates is what counts: its disk is in memory.
func BenchmarkPutCall(b *testing.B) {
	benchmarkCall(b, "Put", &pb.PutRequest{Key: []byte("/registry/pods/default/pod-00000001"), Value: []byte(strings.Repeat("v", 256))})
}

// BenchmarkUpdateCall is the same for the update of an API server, 1 KB put if a revision is right.
func BenchmarkUpdateCall(b *testing.B) {
	key := []byte("/registry/pods/default/pod-00000001")
	benchmarkCall(b, "Txn", &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: key, Target: pb.Compare_MOD, Result: pb.Compare_LESS, TargetUnion: &pb.Compare_ModRevision{ModRevision: 1 << 60}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: make([]byte, 1<<10)}}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}},
	})
}

func benchmarkCall(b *testing.B, method string, request proto.Message) {
	b.Helper()
	s := serve(b, testServerConfig(), testConfig())
	text, err := proto.Marshal(request)
	if err != nil {
		b.Fatal(err)
	}
	at := slices.IndexFunc(kvService.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == method })
	c, wire := newCodec(s.api.stats), mem.BufferSlice{mem.SliceBuffer(text)}
	decode := func(q any) error { return c.Unmarshal(wire, q) }
	b.SetParallelism(100)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			answer, err := kvService.Methods[at].Handler(s.api, b.Context(), decode, s.api.countUnary)
			if err == nil {
				_, err = c.Marshal(answer)
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

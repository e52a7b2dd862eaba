package calls

import (
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"holdfast/metrics"
)

// BenchmarkCount is what counting costs for a unary call.
func BenchmarkCount(b *testing.B) {
	s := NewStats(metrics.New(metrics.Config{}))
	m := &methodStats{kind: "unary", service: "etcdserverpb.KV", name: "Put"}
	ctx := metadata.NewIncomingContext(b.Context(), metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, "3.7"))
	s.methods = map[string]*methodStats{"/etcdserverpb.KV/Put": m, "/etcdserverpb.KV/Range": {}}
	for b.Loop() {
		call := s.BeginUnary("/etcdserverpb.KV/Put")
		if err := s.Client(ctx, "unary"); err != nil {
			b.Fatal(err)
		}
		s.Received(300)
		s.Sent(30)
		call.EndUnary(nil)
	}
}

package api

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// getCost is a member with hot keys, and calls that read one of them as gRPC makes them.
type getCost struct {
	s       *service
	ctx     context.Context
	handle  grpc.MethodHandler
	bodies  [][]byte
	request []byte // the one of the call under way
}

func newGetCost(t testing.TB, serializable bool) *getCost {
	s := serve(t, testServerConfig(), testConfig())
	g := &getCost{s: s, handle: kvService.Methods[0].Handler}
	g.ctx = metadata.NewIncomingContext(t.Context(), metadata.Pairs(":authority", "member", "content-type", "application/grpc",
		"user-agent", "grpc-go/1.85.0"))
	for i := range 1000 {
		key := fmt.Appendf(nil, "key/%06d", i)
		s.put(string(key), string(make([]byte, 256)))
		body, err := proto.Marshal(&pb.RangeRequest{Key: key, Serializable: serializable})
		if err != nil {
			t.Fatal(err)
		}
		g.bodies = append(g.bodies, body)
	}
	return g
}

// get makes the i-th call: what is ours of it, from the header's arrival to the bytes for the socket.
func (g *getCost) get(i int) error {
	g.request = g.bodies[i%len(g.bodies)]
	ctx, err := g.s.api.guard.Admit(g.ctx, &tap.Info{FullMethodName: pb.KV_Range_FullMethodName})
	if err != nil {
		return err
	}
	c := codec{stats: g.s.api.stats}
	answer, err := g.handle(g.s.api, ctx, func(q any) error { return c.Unmarshal(buffers(g.request), q) }, g.s.api.countUnary)
	if err != nil {
		return err
	}
	out, err := c.Marshal(answer)
	if err == nil && out.Len() < 256 {
		err = fmt.Errorf("%d bytes", out.Len())
	}
	return err
}

// BenchmarkGet asks what a get costs beside gRPC: 1 us, and few allocations.
func BenchmarkGet(b *testing.B) {
	for _, serializable := range []bool{false, true} {
		b.Run(fmt.Sprintf("serializable=%v", serializable), func(b *testing.B) {
			g := newGetCost(b, serializable)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := g.get(i); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

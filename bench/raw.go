package bench

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// raw is an answer as it came. Decoding ten thousand keys costs more than sending them, and would be charged to a machine that the
// server shares with the client.
type raw struct{ bytes []byte }

// rawCodec sends messages and takes answers as they come.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return encoding.GetCodecV2(proto.Name).Marshal(v)
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	into, is := v.(*raw)
	if !is {
		return fmt.Errorf("receive into a %T", v)
	}
	into.bytes = data.MaterializeToBuffer(mem.DefaultBufferPool()).ReadOnlyData()
	return nil
}

func (rawCodec) Name() string { return proto.Name }

// rawCall lets answers come as they are, however large.
var rawCall = []grpc.CallOption{grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(1 << 30)}

// rangeRaw asks q and returns how many bytes the answer has.
func rangeRaw(ctx context.Context, conn *grpc.ClientConn, q *pb.RangeRequest) (int, error) {
	var a raw
	err := conn.Invoke(ctx, pb.KV_Range_FullMethodName, q, &a, rawCall...)
	return len(a.bytes), err
}

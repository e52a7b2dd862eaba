package api

import (
	"bytes"
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"holdfast/api/lockpb"
	"holdfast/api/recipe"
	"holdfast/kv"
	"holdfast/util/queue"
)

// lockService is v3lockpb.Lock.
var lockService = grpc.ServiceDesc{
	ServiceName: lockpb.LockService,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary(lockpb.LockService, "Lock", viaRecipes((*recipe.Service).Lock)),
		unary(lockpb.LockService, "Unlock", viaRecipes((*recipe.Service).Unlock)),
	},
	Metadata: "v3lock.proto",
}

// electionService is v3electionpb.Election.
var electionService = grpc.ServiceDesc{
	ServiceName: lockpb.ElectionService,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary(lockpb.ElectionService, "Campaign", viaRecipes((*recipe.Service).Campaign)),
		unary(lockpb.ElectionService, "Proclaim", viaRecipes((*recipe.Service).Proclaim)),
		unary(lockpb.ElectionService, "Leader", viaRecipes((*recipe.Service).Leader)),
		unary(lockpb.ElectionService, "Resign", viaRecipes((*recipe.Service).Resign)),
	},
	Streams: []grpc.StreamDesc{{StreamName: "Observe", ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		var q lockpb.LeaderRequest
		if err := stream.RecvMsg(&q); err != nil {
			return toWire(err)
		}
		return toWire(srv.(*API).recipes.Observe(stream.Context(), &q, func(r *lockpb.LeaderResponse) error { return stream.SendMsg(r) }))
	}}},
	Metadata: "v3election.proto",
}

// viaRecipes makes a call of the API of one of its recipes.
func viaRecipes[Q, A any](call func(*recipe.Service, context.Context, *Q) (A, error)) func(*API, context.Context, *Q) (any, error) {
	return func(a *API, ctx context.Context, q *Q) (any, error) { return call(a.recipes, ctx, q) }
}

// asClient makes calls of our own go the way of a client's, in the generated messages: what is refused there is refused here. Their
// errors lose their codes, as in etcd, where they pass through a client on their way; clients know them by their texts.
type asClient struct{ *API }

// forClient is an error as etcd's client hands it on.
func forClient(err error) error { return rpctypes.Error(toWire(err)) }

// Txn implements recipe.Client.
func (c asClient) Txn(ctx context.Context, q *pb.TxnRequest) (*pb.TxnResponse, error) {
	var call txnCall
	if err := reread(q, &call); err != nil {
		return nil, err
	}
	answer, err := c.txn(ctx, &call)
	return decodeAnswer(answer, err, new(pb.TxnResponse))
}

// Range implements recipe.Client.
func (c asClient) Range(ctx context.Context, q *pb.RangeRequest) (*pb.RangeResponse, error) {
	var call rangeCall
	if err := reread(q, &call); err != nil {
		return nil, err
	}
	answer, err := c.rangeKeys(ctx, &call)
	return decodeAnswer(answer, err, new(pb.RangeResponse))
}

// Delete implements recipe.Client.
func (c asClient) Delete(ctx context.Context, key []byte) (*pb.DeleteRangeResponse, error) {
	var call deleteCall
	if err := reread(&pb.DeleteRangeRequest{Key: key}, &call); err != nil {
		return nil, err
	}
	answer, err := c.deleteRange(ctx, &call)
	return decodeAnswer(answer, err, new(pb.DeleteRangeResponse))
}

// LeaseGrant implements recipe.Client.
func (c asClient) LeaseGrant(ctx context.Context, ttl int64) (int64, error) {
	l, err := c.member.LeaseGrant(ctx, kv.LeaseGrantRequest{TTL: ttl})
	if err != nil {
		return 0, forClient(err)
	}
	return int64(l.ID), nil
}

// Watch implements recipe.Client.
func (c asClient) Watch(ctx context.Context, q *kv.WatchCreate, each func(*pb.WatchResponse) error) error {
	wake := make(chan struct{}, 1)
	s := c.member.NewWatchStream(func() { queue.Wake(wake) })
	defer s.Close()
	c.createWatch(ctx, s, q)
	for {
		r, some, err := s.Next(watchBatchBytes)
		if err != nil {
			return forClient(err)
		}
		if some {
			answer, err := decodeAnswer(c.watchAnswer(&r), nil, new(pb.WatchResponse))
			if err == nil {
				err = each(answer)
			}
			if err != nil {
				return err
			}
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.stopping:
			return forClient(rpctypes.ErrGRPCStopped)
		}
	}
}

// reread turns a message into a call as if it came from the wire.
func reread(m proto.Message, call inbound) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return call.read(mem.BufferSlice{mem.SliceBuffer(body)})
}

// decodeAnswer is what a client gets of an answer, or of the error instead.
func decodeAnswer[M proto.Message](answer any, err error, into M) (none M, _ error) {
	if err != nil {
		return none, forClient(err)
	}
	body, err := wholeOf(answer)
	if err == nil {
		err = proto.Unmarshal(body, into)
	}
	if err != nil {
		return none, err
	}
	return into, nil
}

// wholeOf is an encoded answer in one piece.
func wholeOf(message any) ([]byte, error) {
	switch m := message.(type) {
	case *onePart:
		return m.SliceBuffer, nil
	case *answer:
		return m.join()
	}
	return bytes.Join(message.(outbound), nil), nil
}

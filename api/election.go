package api

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"holdfast/api/lockpb"
	"holdfast/kv"
)

// electionService is v3electionpb.Election.
var electionService = grpc.ServiceDesc{
	ServiceName: lockpb.ElectionService,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary(lockpb.ElectionService, "Campaign", (*API).campaign),
		unary(lockpb.ElectionService, "Proclaim", (*API).proclaim),
		unary(lockpb.ElectionService, "Leader", (*API).leader),
		unary(lockpb.ElectionService, "Resign", (*API).resign),
	},
	Streams: []grpc.StreamDesc{{StreamName: "Observe", ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		return toWire(srv.(*API).observe(stream))
	}}},
	Metadata: "v3election.proto",
}

// The texts are etcd's.
var (
	errNotElected    = errors.New("election: not leader")
	errNoneElected   = errors.New("election: no leader")
	errLeaderMissing = errors.New(`"leader" field must be provided`)
)

// campaign waits until the caller leads. A candidate that breaks off resigns; one whose wait fails for another reason stays
// in its place and may come back with the same lease.
func (a *API) campaign(ctx context.Context, q *lockpb.CampaignRequest) (any, error) {
	lease, err := a.leaseFor(ctx, q.Lease)
	if err != nil {
		return nil, err
	}
	prefix := below(q.Name)
	own := &lockpb.LeaderKey{Name: q.Name, Key: ownKey(prefix, lease), Lease: lease}
	header, err := a.stand(ctx, own, q.Value)
	if err != nil {
		return nil, err
	}
	if err := a.awaitOlder(ctx, prefix, own.Rev-1); err != nil {
		if ctx.Err() != nil {
			a.withdraw(context.WithoutCancel(ctx), own)
		}
		return nil, err
	}
	return &lockpb.CampaignResponse{Header: header, Leader: own}, nil
}

// stand makes sure that the candidate's key exists with its value, and notes in own when it was created.
func (a *API) stand(ctx context.Context, own *lockpb.LeaderKey, value []byte) (*pb.ResponseHeader, error) {
	r, err := a.txnAsClient(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(own.Key, 0)},
		Success: []*pb.RequestOp{putOp(own.Key, value, own.Lease)},
		Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: own.Key})},
	})
	if err != nil {
		return nil, err
	}
	own.Rev = r.Header.Revision
	if r.Succeeded {
		return r.Header, nil
	}
	before := r.Responses[0].GetResponseRange().Kvs[0]
	own.Rev = before.CreateRevision
	if bytes.Equal(before.Value, value) {
		return r.Header, nil
	}
	if _, err := a.setValue(ctx, own, value); err != nil {
		a.withdraw(ctx, own)
		return nil, err
	}
	return r.Header, nil
}

// setValue changes the value of a candidate, if its key is still the one it had.
func (a *API) setValue(ctx context.Context, own *lockpb.LeaderKey, value []byte) (*pb.ResponseHeader, error) {
	r, err := a.txnAsClient(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(own.Key, own.Rev)},
		Success: []*pb.RequestOp{putOp(own.Key, value, own.Lease)},
	})
	if err != nil {
		return nil, err
	}
	if !r.Succeeded {
		return nil, errNotElected
	}
	return r.Header, nil
}

// giveUp deletes the key of a candidate, if it is still the one it had.
func (a *API) giveUp(ctx context.Context, own *lockpb.LeaderKey) (*pb.TxnResponse, error) {
	return a.txnAsClient(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(own.Key, own.Rev)},
		Success: []*pb.RequestOp{deleteOp(own.Key)},
	})
}

// withdraw is giveUp for a candidate that nobody waits for. What cannot be deleted goes with its lease.
func (a *API) withdraw(ctx context.Context, own *lockpb.LeaderKey) {
	if _, err := a.giveUp(ctx, own); err != nil {
		a.log.Warn("could not take back a candidate that is not waited for any more", "error", err)
	}
}

func (a *API) proclaim(ctx context.Context, q *lockpb.ProclaimRequest) (any, error) {
	if q.Leader == nil {
		return nil, errLeaderMissing
	}
	own, err := a.resumed(ctx, q.Leader)
	if err != nil {
		return nil, err
	}
	header, err := a.setValue(ctx, own, q.Value)
	if err != nil {
		return nil, err
	}
	return &lockpb.ProclaimResponse{Header: header}, nil
}

// resign ends a leadership. Whoever does not lead is told the same.
func (a *API) resign(ctx context.Context, q *lockpb.ResignRequest) (any, error) {
	if q.Leader == nil {
		return nil, errLeaderMissing
	}
	own, err := a.resumed(ctx, q.Leader)
	if err != nil {
		return nil, err
	}
	r, err := a.giveUp(ctx, own)
	if err != nil {
		return nil, err
	}
	return &lockpb.ResignResponse{Header: r.Header}, nil
}

// resumed is the leadership that a client says it has. Without a lease etcd grants one here too, and so do we: what is
// proclaimed would otherwise stay for good.
func (a *API) resumed(ctx context.Context, said *lockpb.LeaderKey) (*lockpb.LeaderKey, error) {
	lease, err := a.leaseFor(ctx, said.Lease)
	if err != nil {
		return nil, err
	}
	return &lockpb.LeaderKey{Name: said.Name, Key: said.Key, Rev: said.Rev, Lease: lease}, nil
}

func (a *API) leader(ctx context.Context, q *lockpb.LeaderRequest) (any, error) {
	r, err := a.rangeAsClient(ctx, oldest(below(q.Name)))
	if err != nil {
		return nil, err
	}
	if len(r.Kvs) == 0 {
		return nil, errNoneElected
	}
	return &lockpb.LeaderResponse{Header: r.Header, Kv: r.Kvs[0]}, nil
}

// observe sends the present leader and each change of who leads and with which value.
func (a *API) observe(stream grpc.ServerStream) error {
	var q lockpb.LeaderRequest
	if err := stream.RecvMsg(&q); err != nil {
		return err
	}
	o := observer{API: a, stream: stream, prefix: below(q.Name)}
	for {
		leader, err := o.next()
		if err == nil {
			err = o.attend(leader)
		}
		if err != nil && !errors.Is(err, errOvertaken) {
			return err
		}
	}
}

// observer is an observation of one election under way.
type observer struct {
	*API
	stream grpc.ServerStream
	prefix []byte
}

// next waits until there is a leader.
func (o *observer) next() (*lockpb.LeaderResponse, error) {
	ctx := o.stream.Context()
	r, err := o.rangeAsClient(ctx, oldest(o.prefix))
	if err != nil {
		return nil, err
	}
	if len(r.Kvs) > 0 {
		return &lockpb.LeaderResponse{Header: r.Header, Kv: r.Kvs[0]}, nil
	}
	q := kv.WatchCreate{KeyRange: kv.KeyRange{Key: o.prefix, End: behind(o.prefix)}, Start: kv.Revision(r.Header.Revision), NoDelete: true}
	var first *lockpb.LeaderResponse
	err = o.follow(ctx, &q, func(r *pb.WatchResponse, e *mvccpb.Event) error {
		r.Header.Revision = e.Kv.ModRevision
		first = &lockpb.LeaderResponse{Header: r.Header, Kv: e.Kv}
		return errSeen
	})
	if errors.Is(err, errSeen) {
		return first, nil
	}
	return nil, err
}

// attend sends a leader and what it proclaims, until it leads no more.
func (o *observer) attend(leader *lockpb.LeaderResponse) error {
	if err := o.stream.SendMsg(leader); err != nil {
		return err
	}
	q := kv.WatchCreate{KeyRange: kv.KeyRange{Key: leader.Kv.Key}, Start: kv.Revision(leader.Header.Revision + 1)}
	err := o.follow(o.stream.Context(), &q, func(r *pb.WatchResponse, e *mvccpb.Event) error {
		if e.Type == mvccpb.Event_DELETE {
			return errSeen
		}
		return o.stream.SendMsg(&lockpb.LeaderResponse{Header: r.Header, Kv: e.Kv})
	})
	if errors.Is(err, errSeen) {
		return nil
	}
	return err
}

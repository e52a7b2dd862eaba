package recipe

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"holdfast/api/lockpb"
	"holdfast/kv"
)

// The texts are etcd's.
var (
	errNotElected    = errors.New("election: not leader")
	errNoneElected   = errors.New("election: no leader")
	errLeaderMissing = errors.New(`"leader" field must be provided`)
)

// Campaign waits until the caller leads. A candidate that breaks off resigns; one whose wait fails for another reason stays
// in its place and may come back with the same lease.
func (s *Service) Campaign(ctx context.Context, q *lockpb.CampaignRequest) (*lockpb.CampaignResponse, error) {
	lease, err := s.leaseFor(ctx, q.Lease)
	if err != nil {
		return nil, err
	}
	prefix := below(q.Name)
	own := &lockpb.LeaderKey{Name: q.Name, Key: ownKey(prefix, lease), Lease: lease}
	header, err := s.stand(ctx, own, q.Value)
	if err != nil {
		return nil, err
	}
	if err := s.awaitOlder(ctx, prefix, own.Rev-1); err != nil {
		if ctx.Err() != nil {
			s.withdraw(context.WithoutCancel(ctx), own)
		}
		return nil, err
	}
	return &lockpb.CampaignResponse{Header: header, Leader: own}, nil
}

// stand makes sure that the candidate's key exists with its value, and notes in own when it was created.
func (s *Service) stand(ctx context.Context, own *lockpb.LeaderKey, value []byte) (*pb.ResponseHeader, error) {
	r, err := s.client.Txn(ctx, &pb.TxnRequest{
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
	if _, err := s.setValue(ctx, own, value); err != nil {
		s.withdraw(ctx, own)
		return nil, err
	}
	return r.Header, nil
}

// setValue changes the value of a candidate, if its key is still the one it had.
func (s *Service) setValue(ctx context.Context, own *lockpb.LeaderKey, value []byte) (*pb.ResponseHeader, error) {
	r, err := s.client.Txn(ctx, &pb.TxnRequest{
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
func (s *Service) giveUp(ctx context.Context, own *lockpb.LeaderKey) (*pb.TxnResponse, error) {
	return s.client.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(own.Key, own.Rev)},
		Success: []*pb.RequestOp{deleteOp(own.Key)},
	})
}

// withdraw is giveUp for a candidate that nobody waits for. What cannot be deleted goes with its lease.
func (s *Service) withdraw(ctx context.Context, own *lockpb.LeaderKey) {
	if _, err := s.giveUp(ctx, own); err != nil {
		s.log.Warn("could not take back a candidate that is not waited for any more", "error", err)
	}
}

// Proclaim changes the value of whoever leads.
func (s *Service) Proclaim(ctx context.Context, q *lockpb.ProclaimRequest) (*lockpb.ProclaimResponse, error) {
	if q.Leader == nil {
		return nil, errLeaderMissing
	}
	own, err := s.resumed(ctx, q.Leader)
	if err != nil {
		return nil, err
	}
	header, err := s.setValue(ctx, own, q.Value)
	if err != nil {
		return nil, err
	}
	return &lockpb.ProclaimResponse{Header: header}, nil
}

// Resign ends a leadership. Whoever does not lead is told the same.
func (s *Service) Resign(ctx context.Context, q *lockpb.ResignRequest) (*lockpb.ResignResponse, error) {
	if q.Leader == nil {
		return nil, errLeaderMissing
	}
	own, err := s.resumed(ctx, q.Leader)
	if err != nil {
		return nil, err
	}
	r, err := s.giveUp(ctx, own)
	if err != nil {
		return nil, err
	}
	return &lockpb.ResignResponse{Header: r.Header}, nil
}

// resumed is the leadership that a client says it has. Without a lease etcd grants one here too, and so do we: what is
// proclaimed would otherwise stay for good.
func (s *Service) resumed(ctx context.Context, said *lockpb.LeaderKey) (*lockpb.LeaderKey, error) {
	lease, err := s.leaseFor(ctx, said.Lease)
	if err != nil {
		return nil, err
	}
	return &lockpb.LeaderKey{Name: said.Name, Key: said.Key, Rev: said.Rev, Lease: lease}, nil
}

// Leader gives the key of whoever leads.
func (s *Service) Leader(ctx context.Context, q *lockpb.LeaderRequest) (*lockpb.LeaderResponse, error) {
	r, err := s.client.Range(ctx, oldest(below(q.Name)))
	if err != nil {
		return nil, err
	}
	if len(r.Kvs) == 0 {
		return nil, errNoneElected
	}
	return &lockpb.LeaderResponse{Header: r.Header, Kv: r.Kvs[0]}, nil
}

// Observe sends the present leader and each change of who leads and with which value, until ctx ends.
func (s *Service) Observe(ctx context.Context, q *lockpb.LeaderRequest, send func(*lockpb.LeaderResponse) error) error {
	o := observer{Service: s, prefix: below(q.Name), send: send}
	for {
		leader, err := o.next(ctx)
		if err == nil {
			err = o.attend(ctx, leader)
		}
		if err != nil && !errors.Is(err, errOvertaken) {
			return err
		}
	}
}

// observer is an observation of one election under way.
type observer struct {
	*Service
	prefix []byte
	send   func(*lockpb.LeaderResponse) error
}

// next waits until there is a leader.
func (o *observer) next(ctx context.Context) (*lockpb.LeaderResponse, error) {
	r, err := o.client.Range(ctx, oldest(o.prefix))
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
func (o *observer) attend(ctx context.Context, leader *lockpb.LeaderResponse) error {
	if err := o.send(leader); err != nil {
		return err
	}
	q := kv.WatchCreate{KeyRange: kv.KeyRange{Key: leader.Kv.Key}, Start: kv.Revision(leader.Header.Revision + 1)}
	err := o.follow(ctx, &q, func(r *pb.WatchResponse, e *mvccpb.Event) error {
		if e.Type == mvccpb.Event_DELETE {
			return errSeen
		}
		return o.send(&lockpb.LeaderResponse{Header: r.Header, Kv: e.Kv})
	})
	if errors.Is(err, errSeen) {
		return nil
	}
	return err
}

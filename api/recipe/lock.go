package recipe

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/api/lockpb"
)

// orphanTTL is the time to live, in seconds, of a lease that the member grants for a lock or a candidate that came without
// one. Nobody keeps it alive unless the client does.
const orphanTTL = 60

// errSessionExpired: the lease of a lock ended while it was waited for. The text is etcd's.
var errSessionExpired = errors.New("mutex: session is expired")

// leaseFor gives the lease that a request names, or a new one.
func (s *Service) leaseFor(ctx context.Context, id int64) (int64, error) {
	if id != 0 {
		return id, nil
	}
	return s.client.LeaseGrant(ctx, orphanTTL)
}

// ownKey is the key of whoever competes with a lease.
func ownKey(prefix []byte, lease int64) []byte { return fmt.Appendf(nil, "%s%x", prefix, lease) }

// Lock waits until the caller holds a lock. A caller that does not wait for the answer leaves no key behind.
func (s *Service) Lock(ctx context.Context, q *lockpb.LockRequest) (*lockpb.LockResponse, error) {
	lease, err := s.leaseFor(ctx, q.Lease)
	if err != nil {
		return nil, err
	}
	prefix := below(q.Name)
	key := ownKey(prefix, lease)
	r, err := s.client.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(key, 0)},
		Success: []*pb.RequestOp{putOp(key, nil, lease), rangeOp(oldest(prefix))},
		Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: key}), rangeOp(oldest(prefix))},
	})
	if err != nil {
		return nil, err
	}
	created := r.Header.Revision
	if !r.Succeeded { // the same lease has asked before
		created = r.Responses[0].GetResponseRange().Kvs[0].CreateRevision
	}
	if r.Responses[1].GetResponseRange().Kvs[0].CreateRevision == created {
		return &lockpb.LockResponse{Header: r.Header, Key: key}, nil
	}
	header, err := s.awaitLock(ctx, prefix, key, created)
	if err != nil {
		return nil, err
	}
	return &lockpb.LockResponse{Header: header, Key: key}, nil
}

// awaitLock waits until key, created at a revision, is the oldest below prefix.
func (s *Service) awaitLock(ctx context.Context, prefix, key []byte, created int64) (*pb.ResponseHeader, error) {
	err := s.awaitOlder(ctx, prefix, created-1)
	var mine *pb.RangeResponse
	if err == nil {
		mine, err = s.client.Range(ctx, &pb.RangeRequest{Key: key})
	}
	switch {
	case err != nil:
		// The call may have ended, the key is to go all the same. What cannot be deleted goes with its lease.
		_, deleted := s.client.Delete(context.WithoutCancel(ctx), key)
		if deleted != nil {
			s.log.Warn("could not take back the key of a lock that is not waited for any more", "error", deleted)
		}
		return nil, err
	case len(mine.Kvs) == 0:
		return nil, errSessionExpired
	}
	return mine.Header, nil
}

// Unlock deletes the key of a lock, or any other.
func (s *Service) Unlock(ctx context.Context, q *lockpb.UnlockRequest) (*lockpb.UnlockResponse, error) {
	r, err := s.client.Delete(ctx, q.Key)
	if err != nil {
		return nil, err
	}
	return &lockpb.UnlockResponse{Header: r.Header}, nil
}

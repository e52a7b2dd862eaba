package proxy

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// kvService reads and writes, with the cache in between.
//
// The cache is for clients without a token alone: what one user may read another may not, and only the cluster knows.
type kvService struct {
	pb.UnimplementedKVServer
	*Proxy
}

// Range implements pb.KVServer.
func (s *kvService) Range(ctx context.Context, q *pb.RangeRequest) (*pb.RangeResponse, error) {
	open := behalf(ctx).token == ""
	if open && q.Serializable {
		if answer, err := s.cache.get(q); err != nil || answer != nil && s.inOrder(answer) {
			return answer, err
		}
	}
	store := s.kv
	if !open {
		store = s.direct // a lease on a key does not say who may read it
	}
	r, err := store.Do(outgoing(ctx), rangeOp(q))
	if err != nil {
		return nil, asStatus(err)
	}
	answer := (*pb.RangeResponse)(r.Get())
	if open {
		s.cache.add(q, answer)
	}
	return answer, nil
}

// inOrder tells whether an answer from the cache may be given after the ones that were.
func (s *kvService) inOrder(answer *pb.RangeResponse) bool {
	return s.order == nil || answer.Header.GetRevision() >= s.order.seen.Load()
}

// Put implements pb.KVServer.
func (s *kvService) Put(ctx context.Context, q *pb.PutRequest) (*pb.PutResponse, error) {
	r, err := s.kv.Do(outgoing(ctx), putOp(q))
	answer := (*pb.PutResponse)(r.Put())
	s.cache.wrote(keys{key: string(q.Key)}, answer.GetHeader().GetRevision())
	return answer, asStatus(err)
}

// DeleteRange implements pb.KVServer.
func (s *kvService) DeleteRange(ctx context.Context, q *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	r, err := s.kv.Do(outgoing(ctx), deleteOp(q))
	answer := (*pb.DeleteRangeResponse)(r.Del())
	s.cache.wrote(keys{string(q.Key), string(q.RangeEnd)}, answer.GetHeader().GetRevision())
	return answer, asStatus(err)
}

// Txn implements pb.KVServer.
func (s *kvService) Txn(ctx context.Context, q *pb.TxnRequest) (*pb.TxnResponse, error) {
	if !whole(q) {
		return nil, rpctypes.ErrGRPCKeyNotFound // as the cluster says; etcd's client cannot even ask
	}
	r, err := s.kv.Do(outgoing(ctx), txnOp(q))
	answer := (*pb.TxnResponse)(r.Txn())
	s.forget(q, answer.GetHeader().GetRevision())
	return answer, asStatus(err)
}

// whole tells whether each operation is one.
func whole(q *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{q.Success, q.Failure} {
		for _, op := range ops {
			if op.GetRequestRange() == nil && op.GetRequestPut() == nil && op.GetRequestDeleteRange() == nil && op.GetRequestTxn() == nil {
				return false
			}
			if txn := op.GetRequestTxn(); txn != nil && !whole(txn) {
				return false
			}
		}
	}
	return true
}

// forget takes out of the cache what a transaction may have changed, and what it has compared: a client whose comparison has
// failed is to read again.
func (s *kvService) forget(q *pb.TxnRequest, revision int64) {
	for _, c := range q.Compare {
		s.cache.wrote(keys{string(c.Key), string(c.RangeEnd)}, 0)
	}
	for _, ops := range [][]*pb.RequestOp{q.Success, q.Failure} {
		for _, op := range ops {
			if put := op.GetRequestPut(); put != nil {
				s.cache.wrote(keys{key: string(put.Key)}, revision)
			}
			if del := op.GetRequestDeleteRange(); del != nil {
				s.cache.wrote(keys{string(del.Key), string(del.RangeEnd)}, revision)
			}
			if txn := op.GetRequestTxn(); txn != nil {
				s.forget(txn, revision)
			}
		}
	}
}

// Compact implements pb.KVServer.
func (s *kvService) Compact(ctx context.Context, q *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	var opts []clientv3.CompactOption
	if q.Physical {
		opts = append(opts, clientv3.WithCompactPhysical())
	}
	r, err := s.kv.Compact(outgoing(ctx), q.Revision, opts...)
	if err != nil {
		return nil, asStatus(err)
	}
	s.cache.compact(q.Revision)
	return (*pb.CompactionResponse)(r), nil
}

// The requests as etcd's client knows them: its layers (namespace, leasing, ordering) work on these.

func rangeOp(q *pb.RangeRequest) clientv3.Op {
	opts := []clientv3.OpOption{
		clientv3.WithRev(q.Revision), clientv3.WithLimit(q.Limit),
		clientv3.WithSort(clientv3.SortTarget(q.SortTarget), clientv3.SortOrder(q.SortOrder)),
		clientv3.WithMinModRev(q.MinModRevision), clientv3.WithMaxModRev(q.MaxModRevision),
		clientv3.WithMinCreateRev(q.MinCreateRevision), clientv3.WithMaxCreateRev(q.MaxCreateRevision),
	}
	opts = when(opts, len(q.RangeEnd) > 0, clientv3.WithRange(string(q.RangeEnd)))
	opts = when(opts, q.CountOnly, clientv3.WithCountOnly())
	opts = when(opts, q.KeysOnly, clientv3.WithKeysOnly())
	opts = when(opts, q.Serializable, clientv3.WithSerializable())
	return clientv3.OpGet(string(q.Key), opts...)
}

func when(opts []clientv3.OpOption, set bool, opt clientv3.OpOption) []clientv3.OpOption {
	if set {
		return append(opts, opt)
	}
	return opts
}

func putOp(q *pb.PutRequest) clientv3.Op {
	opts := []clientv3.OpOption{clientv3.WithLease(clientv3.LeaseID(q.Lease))}
	opts = when(opts, q.IgnoreValue, clientv3.WithIgnoreValue())
	opts = when(opts, q.IgnoreLease, clientv3.WithIgnoreLease())
	opts = when(opts, q.PrevKv, clientv3.WithPrevKV())
	return clientv3.OpPut(string(q.Key), string(q.Value), opts...)
}

func deleteOp(q *pb.DeleteRangeRequest) clientv3.Op {
	var opts []clientv3.OpOption
	opts = when(opts, len(q.RangeEnd) > 0, clientv3.WithRange(string(q.RangeEnd)))
	opts = when(opts, q.PrevKv, clientv3.WithPrevKV())
	return clientv3.OpDelete(string(q.Key), opts...)
}

func txnOp(q *pb.TxnRequest) clientv3.Op {
	var compares []clientv3.Cmp
	for _, c := range q.Compare {
		compares = append(compares, clientv3.FromCompare(c))
	}
	return clientv3.OpTxn(compares, anyOps(q.Success), anyOps(q.Failure))
}

func anyOps(ops []*pb.RequestOp) (all []clientv3.Op) {
	for _, op := range ops {
		all = append(all, anyOp(op))
	}
	return all
}

// anyOp is one operation of a transaction.
func anyOp(op *pb.RequestOp) clientv3.Op {
	switch {
	case op.GetRequestPut() != nil:
		return putOp(op.GetRequestPut())
	case op.GetRequestDeleteRange() != nil:
		return deleteOp(op.GetRequestDeleteRange())
	case op.GetRequestTxn() != nil:
		return txnOp(op.GetRequestTxn())
	}
	return rangeOp(op.GetRequestRange())
}

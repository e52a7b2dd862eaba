// Package recipe is locks and elections. They are made of transactions, ranges and watches as any client could send them, and a member
// carries them out on a client's behalf: whoever wants to lead puts a key of its own below the name, with a lease; the oldest key leads.
// Who comes later waits until the keys before its own are gone.
//
//	Errors   those of its own have no code, only texts, which are etcd's; those of its calls lose their codes on their way
//	Source   etcd's services v3lockpb.Lock and v3electionpb.Election; its client's package concurrency
package recipe

import (
	"bytes"
	"context"
	"errors"
	"log/slog"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/kv"
)

// Client makes calls as if the client had sent them of whom ctx is. Errors are as etcd's client hands them on.
type Client interface {
	Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)
	Delete(ctx context.Context, key []byte) (*pb.DeleteRangeResponse, error)
	LeaseGrant(ctx context.Context, ttl int64) (id int64, err error)
	// Watch gives each what a watch is answered with, until each returns an error, ctx ends or the watch does, and returns why.
	Watch(ctx context.Context, q *kv.WatchCreate, each func(*pb.WatchResponse) error) error
}

// Service carries out recipes.
type Service struct {
	client Client
	log    *slog.Logger
}

// New makes a service of what a client could do.
func New(c Client, log *slog.Logger) *Service { return &Service{c, log} }

// below is the prefix under which those who compete for a name have their keys.
func below(name []byte) []byte { return append(bytes.Clone(name), '/') }

// behind is the end of the range of all keys that begin with a prefix that ends in a slash.
func behind(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	end[len(end)-1]++
	return end
}

// oldest asks for the key below prefix that was created first: the leader's.
func oldest(prefix []byte) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: prefix, RangeEnd: behind(prefix), Limit: 1,
		SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_CREATE,
	}
}

// createdAt holds for a key that was created at a revision; 0 holds for one that does not exist.
func createdAt(key []byte, rev int64) *pb.Compare {
	return &pb.Compare{
		Key: key, Result: pb.Compare_EQUAL, Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: rev},
	}
}

func rangeOp(q *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: q}}
}

func putOp(key, value []byte, lease int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value, Lease: lease}}}
}

func deleteOp(key []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}
}

// awaitOlder waits until no key below prefix is left that was created at rev or before. It waits for one at a time, the
// youngest: a key that goes wakes only the one behind it.
func (s *Service) awaitOlder(ctx context.Context, prefix []byte, rev int64) error {
	for {
		r, err := s.client.Range(ctx, &pb.RangeRequest{
			Key: prefix, RangeEnd: behind(prefix), Limit: 1, MaxCreateRevision: rev,
			SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_CREATE,
		})
		if err != nil || len(r.Kvs) == 0 {
			return err
		}
		q := kv.WatchCreate{KeyRange: kv.KeyRange{Key: r.Kvs[0].Key}, Start: kv.Revision(r.Header.Revision), NoPut: true}
		err = s.follow(ctx, &q, func(*pb.WatchResponse, *mvccpb.Event) error { return errSeen })
		if err != nil && !errors.Is(err, errSeen) && !errors.Is(err, errOvertaken) {
			return err
		}
	}
}

var (
	// errSeen ends follow from within.
	errSeen = errors.New("seen what was waited for")
	// errOvertaken is what follow returns when the revisions it still needed were compacted: look at the keys again.
	errOvertaken = errors.New("overtaken by a compaction")
)

// follow gives each the events of a watch until it returns an error, ctx ends or the watch does, and returns why.
func (s *Service) follow(ctx context.Context, q *kv.WatchCreate, each func(*pb.WatchResponse, *mvccpb.Event) error) error {
	return s.client.Watch(ctx, q, func(r *pb.WatchResponse) error { return handOut(r, each) })
}

// handOut gives each the events of an answer.
func handOut(r *pb.WatchResponse, each func(*pb.WatchResponse, *mvccpb.Event) error) error {
	switch {
	case r.CompactRevision != 0:
		return errOvertaken
	case r.Canceled:
		return rpctypes.Error(status.Error(codes.FailedPrecondition, r.CancelReason))
	}
	for _, e := range r.Events {
		if err := each(r, e); err != nil {
			return err
		}
	}
	return nil
}

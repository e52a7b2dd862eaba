package api

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/api/port"
	"holdfast/kv"
)

// Locks and elections are recipes: they are made of transactions, ranges and watches as any client could send them, and a
// member carries them out on a client's behalf. Whoever wants to lead puts a key of its own below the name, with a lease;
// the oldest key leads. Who comes later waits until the keys before its own are gone.
//
// The calls below go the way of a client's, in the generated messages: what is refused there is refused here. Their errors
// lose their codes, as in etcd, where they pass through a client on their way; clients know them by their texts.

// asClient is an error as etcd's client hands it on.
func asClient(err error) error { return rpctypes.Error(toWire(err)) }

// txnAsClient runs a transaction.
func (a *API) txnAsClient(ctx context.Context, q *pb.TxnRequest) (*pb.TxnResponse, error) {
	var call txnCall
	if err := reread(q, &call); err != nil {
		return nil, err
	}
	answer, err := a.txn(ctx, &call)
	return decodeAnswer(answer, err, new(pb.TxnResponse))
}

// rangeAsClient reads keys.
func (a *API) rangeAsClient(ctx context.Context, q *pb.RangeRequest) (*pb.RangeResponse, error) {
	var call rangeCall
	if err := reread(q, &call); err != nil {
		return nil, err
	}
	answer, err := a.rangeKeys(ctx, &call)
	return decodeAnswer(answer, err, new(pb.RangeResponse))
}

// deleteAsClient deletes one key.
func (a *API) deleteAsClient(ctx context.Context, key []byte) (*pb.DeleteRangeResponse, error) {
	var call deleteCall
	if err := reread(&pb.DeleteRangeRequest{Key: key}, &call); err != nil {
		return nil, err
	}
	answer, err := a.deleteRange(ctx, &call)
	return decodeAnswer(answer, err, new(pb.DeleteRangeResponse))
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
		return none, asClient(err)
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
func (a *API) awaitOlder(ctx context.Context, prefix []byte, rev int64) error {
	for {
		r, err := a.rangeAsClient(ctx, &pb.RangeRequest{
			Key: prefix, RangeEnd: behind(prefix), Limit: 1, MaxCreateRevision: rev,
			SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_CREATE,
		})
		if err != nil || len(r.Kvs) == 0 {
			return err
		}
		q := kv.WatchCreate{KeyRange: kv.KeyRange{Key: r.Kvs[0].Key}, Start: kv.Revision(r.Header.Revision), NoPut: true}
		err = a.follow(ctx, &q, func(*pb.WatchResponse, *mvccpb.Event) error { return errSeen })
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

// follow watches until each returns an error, ctx ends or the watch does, and returns why.
func (a *API) follow(ctx context.Context, q *kv.WatchCreate, each func(*pb.WatchResponse, *mvccpb.Event) error) error {
	s, wake := a.newWatch(new(port.Hold))
	defer s.Close()
	a.createWatch(ctx, s, q)
	for {
		r, some, err := s.Next(watchBatchBytes)
		switch {
		case err != nil:
			return asClient(err)
		case some:
			if err := handOut(a.watchAnswer(&r), each); err != nil {
				return err
			}
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-a.stopping:
			return asClient(rpctypes.ErrGRPCStopped)
		}
	}
}

// handOut gives each the events of an answer.
func handOut(answer outbound, each func(*pb.WatchResponse, *mvccpb.Event) error) error {
	r, err := decodeAnswer(answer, nil, new(pb.WatchResponse))
	switch {
	case err != nil:
		return err
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

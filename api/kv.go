package api

import (
	"bytes"
	"context"
	"errors"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"holdfast/kv"
)

// unary makes the handler of a unary call whose request is a Q: decode, count and check, call. It calls our interceptor by its name instead
// of the one it is given, which is the same: so the compiler sees that what is made for it need not be on the heap.
func unary[Q any](service, name string, call func(*API, context.Context, *Q) (any, error)) grpc.MethodDesc {
	info := &grpc.UnaryServerInfo{FullMethod: "/" + service + "/" + name} // one for all calls: nobody asks it for the server
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		q := new(Q)
		if err := decode(q); err != nil {
			return nil, err
		}
		a := srv.(*API)
		return a.countUnary(ctx, q, info, func(ctx context.Context, _ any) (any, error) {
			answer, err := call(a, ctx, q)
			return answer, toWire(err)
		})
	}}
}

const kvName = "etcdserverpb.KV"

// kvService is etcdserverpb.KV with our own messages.
var kvService = grpc.ServiceDesc{
	ServiceName: kvName,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary(kvName, "Range", (*API).rangeKeys),
		unary(kvName, "Put", (*API).put),
		unary(kvName, "DeleteRange", (*API).deleteRange),
		unary(kvName, "Txn", (*API).txn),
		unary(kvName, "Compact", (*API).compact),
	},
	Streams: []grpc.StreamDesc{{StreamName: "RangeStream", ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		return toWire(srv.(*API).rangeStream(stream))
	}}},
	Metadata: "rpc.proto",
}

func (a *API) rangeKeys(ctx context.Context, q *rangeCall) (any, error) {
	if err := checkRange(&q.RangeRequest); err != nil {
		return nil, err
	}
	r, w, err := a.rangeWithin(ctx, q)
	if err != nil {
		return nil, err
	}
	if w == nil {
		return encoded(r.Encode(a.member.Header())), nil
	}
	if w.held > 0 && grpc.ServerTransportStreamFromContext(ctx) != nil {
		// What a compressor makes has no bound, and it would take an answer that breaks off for a complete one.
		if err := grpc.SetSendCompressor(ctx, "identity"); err != nil {
			return nil, errors.Join(err, w.drop())
		}
	}
	head, tail := r.EncodeAround(a.member.Header())
	return w.send(r, head, tail), nil
}

func (a *API) put(ctx context.Context, q *putCall) (any, error) {
	if err := checkPut(&q.PutRequest); err != nil {
		return nil, err
	}
	r, err := a.member.Put(ctx, &q.PutRequest, q.draft)
	if err != nil {
		return nil, err
	}
	return encoded(r.Encode(a.member.Header())), nil
}

func (a *API) deleteRange(ctx context.Context, q *deleteCall) (any, error) {
	if err := checkDelete(&q.DeleteRangeRequest); err != nil {
		return nil, err
	}
	return a.whole(ctx, a.sizeOfDelete(&q.DeleteRangeRequest), func() (outbound, error) {
		r, err := a.member.DeleteRange(ctx, &q.DeleteRangeRequest, q.draft)
		if err != nil {
			return nil, err
		}
		return r.Encode(a.member.Header()), nil
	})
}

func (a *API) txn(ctx context.Context, q *txnCall) (any, error) {
	if err := checkTxn(&q.TxnRequest, a.cfg.TxnOpsMax); err != nil {
		return nil, err
	}
	return a.whole(ctx, a.sizeOfTxn(&q.TxnRequest), func() (outbound, error) {
		r, err := a.member.Txn(ctx, &q.TxnRequest, q.draft)
		if err != nil {
			return nil, err
		}
		return r.Encode(a.member.Header()), nil
	})
}

func (a *API) compact(ctx context.Context, q *compactCall) (any, error) {
	if err := a.member.CheckAdmin(ctx); err != nil {
		return nil, err
	}
	rev, err := a.member.Compact(ctx, kv.CompactRequest{Revision: kv.Revision(q.message.Revision), Physical: q.message.Physical})
	if err != nil {
		return nil, err
	}
	return &pb.CompactionResponse{Header: a.headerAt(rev)}, nil
}

// header is the header of an answer about the present.
func (a *API) header() *pb.ResponseHeader { return a.headerAt(a.member.Header().Revision) }

func (a *API) headerAt(rev kv.Revision) *pb.ResponseHeader {
	h := a.member.Header()
	return &pb.ResponseHeader{ClusterId: h.ClusterID, MemberId: uint64(h.MemberID), Revision: int64(rev), RaftTerm: uint64(h.RaftTerm)}
}

// chunkKeys is how many keys the first message of a range stream holds, as in etcd.
const chunkKeys = 10

// rangeStream answers a range in messages of about the size of the largest request. All are read at the revision of the
// first; header, count and more stand in the last.
func (a *API) rangeStream(stream grpc.ServerStream) error {
	var q rangeCall
	if err := stream.RecvMsg(&q); err != nil {
		return err
	}
	if err := checkRangeStream(&q.RangeRequest); err != nil {
		return err
	}
	c := chunks{API: a, stream: stream, next: q.RangeRequest, left: q.Limit}
	switch {
	case q.CountOnly:
		return c.count()
	case q.Limit <= 0:
		c.left = math.MaxInt64
	}
	c.next.Limit = min(chunkKeys, c.left)
	for {
		done, err := c.send()
		if err != nil || done {
			return err
		}
	}
}

// chunks is a range stream under way.
type chunks struct {
	*API
	stream grpc.ServerStream
	next   kv.RangeRequest // the next piece
	left   int64           // keys that may still be sent
	sent   int64
	rev    kv.Revision // of the store when the first piece was read
}

func (c *chunks) count() error {
	r, _, err := c.member.RangeWithin(c.stream.Context(), &c.next, nil)
	if err != nil {
		return err
	}
	h := c.member.Header()
	return c.stream.SendMsg(outbound(r.EncodeChunk(&h)))
}

// send sends the next piece and tells whether it was the last.
func (c *chunks) send() (done bool, err error) {
	w := new(answer)
	r, behind, err := c.rangePart(c.stream.Context(), &c.next, w)
	if err != nil {
		return false, err
	}
	if c.rev == 0 {
		c.rev = r.Revision
		c.next.Serializable = true // the first piece has waited for what was committed
		if c.next.Revision <= 0 {
			c.next.Revision = c.rev
		}
	}
	n := int64(r.Rows.Len())
	total := c.sent + r.Count // a piece counts what begins with its first key
	c.sent, c.left = c.sent+n, c.left-n
	if behind == nil && (!r.More || c.left == 0) {
		h := c.member.Header()
		r.Revision, r.Count = c.rev, total
		return true, c.sendPart(w, r, &h)
	}
	if err := c.advance(r, behind); err != nil {
		return false, errors.Join(err, w.drop())
	}
	r.More, r.Count = false, 0
	return false, c.sendPart(w, r, nil)
}

// sendPart sends a piece; with h it is the last.
func (c *chunks) sendPart(w *answer, r *kv.RangeResult, h *kv.Header) error {
	if w.asked == 0 {
		return c.stream.SendMsg(outbound(r.EncodeChunk(h)))
	}
	head, tail := r.EncodeChunkAround(h)
	return c.stream.SendMsg(w.send(r, head, tail))
}

// advance sets the next piece to begin at a key, or behind the last one of r.
func (c *chunks) advance(r *kv.RangeResult, behind []byte) error {
	if behind == nil {
		var last []byte
		for row := range r.Rows.All() {
			last = row
		}
		v, err := kv.DecodeKeyValue(last)
		if err != nil {
			return err
		}
		behind = append(bytes.Clone(v.Key), 0)
	}
	c.next.Key = behind
	c.next.Limit = min(chunkLimit(int64(r.Rows.Len()), r.Rows.Size(), c.cfg.RequestBytesMax), c.left)
	return nil
}

// chunkLimit brings pieces near a size: twice or half as many keys where the last piece was not within a factor of two.
func chunkLimit(last int64, size, want int) int64 {
	switch {
	case size < want/2:
		return min(last, math.MaxInt64/2) * 2
	case size > want*2:
		return max(last/2, 1)
	}
	return last
}

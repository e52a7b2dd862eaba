package api

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"holdfast/api/calls"
	"holdfast/kv"
)

// The hot messages have hand-written codecs (package kv); every other one goes through the generated code. The codec is
// given to our own gRPC server alone, nothing is registered.

// inbound is a request that reads itself out of the bytes of the wire.
type inbound interface {
	read(data mem.BufferSlice) error
}

// outbound is an answer that comes encoded, in parts.
type outbound [][]byte

// encoded is what the parts of an answer are sent as.
func encoded(parts [][]byte) any {
	if len(parts) != 1 {
		return outbound(parts)
	}
	one := &onePart{SliceBuffer: parts[0]}
	one.frames[0] = one
	return one
}

// onePart is an answer in one part, and all that gRPC wants of it, in one allocation: small answers are what is asked for most.
type onePart struct {
	mem.SliceBuffer
	frames [1]mem.Buffer
}

type codec struct {
	generated encoding.CodecV2
	stats     *calls.Stats
}

func newCodec(stats *calls.Stats) codec { return codec{encoding.GetCodecV2(grpcproto.Name), stats} }

// Name implements encoding.CodecV2.
func (c codec) Name() string { return grpcproto.Name }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	var out mem.BufferSlice
	var err error
	switch v := v.(type) {
	case *onePart:
		out = v.frames[:]
	case outbound:
		out = make(mem.BufferSlice, len(v))
		for i, part := range v {
			out[i] = mem.SliceBuffer(part)
		}
	case *answer:
		out = v.frames
	case *watchMessage:
		out = v.frames
	default:
		out, err = c.generated.Marshal(v)
	}
	c.stats.Sent(out.Len())
	return out, err
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	c.stats.Received(data.Len())
	if hot, ok := v.(inbound); ok {
		return hot.read(data)
	}
	return c.generated.Unmarshal(data, v)
}

// rangeCall is a range that never enters the log.
type rangeCall struct {
	kv.RangeRequest
	room room
}

func (c *rangeCall) read(data mem.BufferSlice) error {
	body := data.Materialize()
	if kv.DecodeRange(body, &c.RangeRequest) == nil {
		return nil
	}
	body, err := kv.Canonical(kv.KindRange, body)
	if err != nil {
		return err
	}
	return kv.DecodeRange(body, &c.RangeRequest)
}

// putCall, deleteCall and txnCall are requests within the drafts of the log entries they become.
type (
	putCall struct {
		kv.PutRequest
		draft kv.Draft
	}
	deleteCall struct {
		kv.DeleteRangeRequest
		draft kv.Draft
	}
	txnCall struct {
		kv.TxnRequest
		draft kv.Draft
	}
)

func (c *putCall) read(data mem.BufferSlice) error {
	return readDraft(data, kv.KindPut, &c.draft, kv.DecodePut, &c.PutRequest)
}

func (c *deleteCall) read(data mem.BufferSlice) error {
	return readDraft(data, kv.KindDeleteRange, &c.draft, kv.DecodeDeleteRange, &c.DeleteRangeRequest)
}

func (c *txnCall) read(data mem.BufferSlice) error {
	return readDraft(data, kv.KindTxn, &c.draft, kv.DecodeTxn, &c.TxnRequest)
}

// readDraft copies a request, once, to where it will enter the log, and decodes it there.
func readDraft[T any](data mem.BufferSlice, kind kv.Kind, d *kv.Draft, decode func([]byte, *T) error, into *T) error {
	*d = kv.NewDraft(kind, data.Len())
	if n := data.CopyTo(d.Body()); n != data.Len() {
		return fmt.Errorf("copied %d of %d bytes of a request", n, data.Len())
	}
	return kv.Decode(d, kind, decode, into)
}

// watchCall is one message of a watch stream.
type watchCall struct{ kv.WatchRequest }

func (c *watchCall) read(data mem.BufferSlice) error {
	return kv.DecodeWatch(data.Materialize(), &c.WatchRequest)
}

// keepAliveCall is one message of a keep-alive stream.
type keepAliveCall struct{ id kv.LeaseID }

func (c *keepAliveCall) read(data mem.BufferSlice) error {
	return kv.DecodeKeepAlive(data.Materialize(), &c.id)
}

// compactCall is a compaction. It is rare and comes through the generated code.
type compactCall struct{ message pb.CompactionRequest }

func (c *compactCall) read(data mem.BufferSlice) error {
	return proto.Unmarshal(data.Materialize(), &c.message)
}

package kv

import (
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Kind is the field number of a hot request in InternalRaftRequest.
type Kind int32

// The requests that have hand-written codecs.
const (
	KindPut         Kind = 4
	KindDeleteRange Kind = 5
	KindTxn         Kind = 6
	KindCompact     Kind = 7
	KindLeaseGrant  Kind = 8
	KindLeaseRevoke Kind = 9
)

// Draft is the payload of a raft entry in the making: etcd's InternalRaftRequest with the request already in place
// and room for the header that Seal adds. A request is copied once, from the socket's buffers into its draft; what
// is decoded from Body aliases the draft, which belongs to the raft entry from then on.
//
//	| tag of the request (1) | length (varint) | body | tag of the header (2) | length (1) | header |
type Draft struct {
	buf  []byte
	body int // offset of the body in buf
}

const (
	fieldHeader protowire.Number = 100
	// headerRoom is what a sealed header without a user name takes at most: tag 2, length 1, id 1+10. A user name
	// makes the buffer grow, once.
	headerRoom = 14
)

// NewDraft makes a draft whose body of n bytes is still to be filled in.
func NewDraft(kind Kind, n int) Draft {
	buf := make([]byte, 0, sizeMessage(n)+headerRoom)
	buf = appendLen(buf, protowire.Number(kind), n)
	return Draft{buf: buf[:len(buf)+n], body: len(buf)}
}

// DraftOf makes a draft with a copy of body.
func DraftOf(kind Kind, body []byte) Draft {
	d := NewDraft(kind, len(body))
	copy(d.Body(), body)
	return d
}

// Body is the request's bytes within the draft.
func (d Draft) Body() []byte { return d.buf[d.body:len(d.buf):len(d.buf)] }

// Seal adds the header and returns the finished payload. The draft must not be used afterwards.
func (d Draft) Seal(h CommandHeader) []byte {
	n := sizeInt(int64(h.ID)) + sizeBytes([]byte(h.Username)) + sizeInt(int64(h.AuthRevision))
	dst := appendLen(d.buf, fieldHeader, n)
	dst = appendInt(dst, 1, int64(h.ID))
	dst = appendBytes(dst, 2, []byte(h.Username))
	return appendInt(dst, 3, int64(h.AuthRevision))
}

// CommandHeader says who waits for a command and on whose behalf it runs (etcdserverpb.RequestHeader).
type CommandHeader struct {
	// ID names the waiting request at the member that proposed it; 0 if nobody waits.
	ID           uint64
	Username     string
	AuthRevision uint64
}

// DraftCompact, DraftLeaseGrant and DraftLeaseRevoke encode a request into a draft.
func DraftCompact(q *CompactRequest) Draft { return DraftOf(KindCompact, appendCompact(nil, q)) }

// DraftLeaseGrant encodes a LeaseGrantRequest into a draft.
func DraftLeaseGrant(q *LeaseGrantRequest) Draft {
	return DraftOf(KindLeaseGrant, appendLeaseGrant(nil, q))
}

// DraftLeaseRevoke encodes a LeaseRevokeRequest into a draft.
func DraftLeaseRevoke(q *LeaseRevokeRequest) Draft {
	return DraftOf(KindLeaseRevoke, appendLeaseRevoke(nil, q))
}

// Decode reads the body of d with decode. A body that is valid protobuf but not canonical is rewritten by the
// generated code first, without its unknown fields, so that what enters the log is what every member can read; the
// draft then changes. The error wraps ErrMalformed for bytes that the generated code refuses too.
func Decode[T any](d *Draft, kind Kind, decode func([]byte, *T) error, into *T) error {
	err := decode(d.Body(), into)
	if !errors.Is(err, ErrNotCanonical) {
		return err
	}
	body, err := Canonical(kind, d.Body())
	if err != nil {
		return err
	}
	*d = DraftOf(kind, body)
	if err := decode(d.Body(), into); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// KindRange is the kind of a RangeRequest for Canonical; a range never enters the log.
const KindRange Kind = 3

// Canonical rewrites a request body in the form that the hand-written decoders accept.
func Canonical(kind Kind, body []byte) ([]byte, error) {
	var m proto.Message
	switch kind {
	case KindRange:
		m = new(pb.RangeRequest)
	case KindPut:
		m = new(pb.PutRequest)
	case KindDeleteRange:
		m = new(pb.DeleteRangeRequest)
	case KindTxn:
		m = new(pb.TxnRequest)
	case KindCompact:
		m = new(pb.CompactionRequest)
	case KindLeaseGrant:
		m = new(pb.LeaseGrantRequest)
	case KindLeaseRevoke:
		m = new(pb.LeaseRevokeRequest)
	default:
		panic(fmt.Sprintf("kv: no request of kind %d", kind))
	}
	return canonicalMessage(m, body)
}

func canonicalMessage(m proto.Message, body []byte) ([]byte, error) {
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, m); err != nil {
		return nil, malformed{err}
	}
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, malformed{err}
	}
	return out, nil
}

// malformed is ErrMalformed in the words of the generated code, which clients of etcd are used to.
type malformed struct{ error }

// Is makes errors.Is find ErrMalformed.
func (malformed) Is(target error) bool { return target == ErrMalformed }

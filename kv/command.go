package kv

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Command is the payload of one raft entry, decoded. Exactly one request is set; everything aliases the payload.
type Command struct {
	CommandHeader

	Put         *PutRequest
	DeleteRange *DeleteRangeRequest
	Txn         *TxnRequest
	Compact     *CompactRequest
	LeaseGrant  *LeaseGrantRequest
	LeaseRevoke *LeaseRevokeRequest
	// Cold is the whole payload in generated form where it is none of the above.
	Cold *pb.InternalRaftRequest
}

// DecodeCommand reads the payload of an entry. A payload that another member wrote in a form of its own, or that
// holds a request without a hand-written codec, is read by the generated code. An error means that the entry cannot be
// applied by anyone.
func DecodeCommand(payload []byte) (Command, error) {
	c, ok := decodeHot(payload)
	if ok {
		return c, nil
	}
	m := new(pb.InternalRaftRequest)
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(payload, m); err != nil {
		if _, old := readOldWrite(payload); old {
			c, err := decodeOldMembers(payload)
			if err != nil {
				return Command{}, fmt.Errorf("decode command of %d bytes: %w", len(payload), err)
			}
			return c, nil
		}
		return Command{}, fmt.Errorf("decode command of %d bytes: %w: %w", len(payload), ErrMalformed, err)
	}
	canonical, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return Command{}, fmt.Errorf("decode command of %d bytes: %w: %w", len(payload), ErrMalformed, err)
	}
	if c, ok := decodeHot(canonical); ok {
		return c, nil
	}
	return Command{CommandHeader: coldHeader(m), Cold: m}, nil
}

// coldHeader finds the id of a request: in the header, or in the field that older members used.
func coldHeader(m *pb.InternalRaftRequest) CommandHeader {
	if m.Header == nil {
		return CommandHeader{ID: m.ID}
	}
	return CommandHeader{ID: m.Header.ID, Username: m.Header.Username, AuthRevision: m.Header.AuthRevision}
}

// decodeHot reads a payload that holds one hot request and a header, in canonical form.
func decodeHot(payload []byte) (Command, bool) {
	var c Command
	requests := 0
	r := reader{rest: payload}
	for r.next() {
		if r.num == 1 { // the id of members older than 3.1
			c.ID = r.varint()
			continue
		}
		body := r.bytes()
		if r.err != nil {
			return Command{}, false
		}
		if r.num == fieldHeader {
			r.err = decodeHeader(body, &c.CommandHeader)
			continue
		}
		requests++
		r.err = c.decodeRequest(Kind(r.num), body)
	}
	return c, r.err == nil && requests == 1
}

func (c *Command) decodeRequest(kind Kind, body []byte) error {
	switch kind {
	case KindPut:
		c.Put = new(PutRequest)
		return DecodePut(body, c.Put)
	case KindDeleteRange:
		c.DeleteRange = new(DeleteRangeRequest)
		return DecodeDeleteRange(body, c.DeleteRange)
	case KindTxn:
		c.Txn = new(TxnRequest)
		return DecodeTxn(body, c.Txn)
	case KindCompact:
		c.Compact = new(CompactRequest)
		return decodeCompact(body, c.Compact)
	case KindLeaseGrant:
		c.LeaseGrant = new(LeaseGrantRequest)
		return decodeLeaseGrant(body, c.LeaseGrant)
	case KindLeaseRevoke:
		c.LeaseRevoke = new(LeaseRevokeRequest)
		return decodeLeaseRevoke(body, c.LeaseRevoke)
	}
	return ErrNotCanonical
}

func decodeHeader(b []byte, h *CommandHeader) error {
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case 1:
			h.ID = r.varint()
		case 2:
			h.Username = string(r.bytes())
		case 3:
			h.AuthRevision = r.varint()
		default:
			r.fail()
		}
	}
	return r.err
}

// EncodeCold gives the payload of a request that has no hand-written codec.
func EncodeCold(h CommandHeader, m *pb.InternalRaftRequest) ([]byte, error) {
	m.Header = &pb.RequestHeader{ID: h.ID, Username: h.Username, AuthRevision: h.AuthRevision}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return payload, nil
}

// PayloadID reads just the id of the waiting request out of a payload, 0 if there is none.
func PayloadID(payload []byte) uint64 {
	r := reader{rest: payload}
	for r.next() {
		switch {
		case r.num == 1 && r.typ == protowire.VarintType:
			return r.varint()
		case r.num == fieldHeader:
			var h CommandHeader
			if decodeHeader(r.bytes(), &h) != nil {
				return 0
			}
			return h.ID
		}
		r.bytes()
	}
	return 0
}

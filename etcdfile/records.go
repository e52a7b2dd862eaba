package etcdfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
)

// Field numbers of leasepb.Lease and of etcdserverpb.AlarmMember.
const (
	fieldLeaseID        protowire.Number = 1
	fieldLeaseTTL       protowire.Number = 2
	fieldLeaseRemaining protowire.Number = 3

	fieldAlarmMember protowire.Number = 1
	fieldAlarmKind   protowire.Number = 2
)

// errBadMessage says that bytes are no message of the kind they stand for.
var errBadMessage = errors.New("malformed protobuf message")

// AppendLease adds l as an encoded leasepb.Lease.
func AppendLease(dst []byte, l Lease) []byte {
	dst = appendVarint(dst, fieldLeaseID, uint64(l.ID))
	dst = appendVarint(dst, fieldLeaseTTL, uint64(l.TTL))
	return appendVarint(dst, fieldLeaseRemaining, uint64(l.Remaining))
}

// DecodeLease reads an encoded leasepb.Lease.
func DecodeLease(b []byte) (Lease, error) {
	var l Lease
	err := eachVarint(b, func(field protowire.Number, v uint64) {
		switch field {
		case fieldLeaseID:
			l.ID = kv.LeaseID(v)
		case fieldLeaseTTL:
			l.TTL = int64(v)
		case fieldLeaseRemaining:
			l.Remaining = int64(v)
		}
	})
	return l, err
}

func appendAlarm(dst []byte, a Alarm) []byte {
	dst = appendVarint(dst, fieldAlarmMember, uint64(a.Member))
	return appendVarint(dst, fieldAlarmKind, uint64(a.Kind))
}

func decodeAlarm(b []byte) (Alarm, error) {
	var a Alarm
	err := eachVarint(b, func(field protowire.Number, v uint64) {
		switch field {
		case fieldAlarmMember:
			a.Member = kv.MemberID(v)
		case fieldAlarmKind:
			a.Kind = int32(v)
		}
	})
	return a, err
}

// appendVarint adds a varint field, or nothing for zero, as proto3 does.
func appendVarint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

// eachVarint calls visit for each varint field of a message. Fields of other types are skipped, as protobuf skips
// what it does not know.
func eachVarint(b []byte, visit func(protowire.Number, uint64)) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errBadMessage
		}
		b = b[n:]
		if kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return errBadMessage
			}
			visit(field, v)
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
			return errBadMessage
		}
		b = b[n:]
	}
	return nil
}

// accountMessage is authpb.User or authpb.Role.
type accountMessage interface {
	proto.Message
	GetName() []byte
}

// check looks whether the account's bytes are a message like kind, whose content is overwritten, for its name.
func (a Account) check(kind accountMessage) error {
	if err := proto.Unmarshal(a.Encoded, kind); err != nil {
		return fmt.Errorf("account %q: %w", a.Name, err)
	}
	if string(kind.GetName()) != a.Name {
		return fmt.Errorf("account %q is named %q in its record", a.Name, kind.GetName())
	}
	return nil
}

// decodeMemberID reads the key of a member: its id in hexadecimal without padding.
func decodeMemberID(key []byte) (kv.MemberID, error) {
	id, err := strconv.ParseUint(string(key), 16, 64)
	if err != nil || kv.MemberID(id).String() != string(key) {
		return 0, fmt.Errorf("%q is no member id", key)
	}
	return kv.MemberID(id), nil
}

// decodeUint64 reads a number of 8 bytes, big endian.
func decodeUint64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("number of %d bytes, not 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Metadata says whose log this is. It stands in every segment.
type Metadata struct {
	NodeID    uint64
	ClusterID uint64
}

// HardState is raft's state that outlives a crash. The zero value means "unchanged" in a Save.
type HardState struct {
	Term   uint64
	Vote   uint64 // member voted for in Term; 0: none
	Commit uint64 // index up to which entries are known to be committed
}

// A SnapshotRecord says that the state machine's state at Index is kept elsewhere, so that the log may begin after it.
type SnapshotRecord struct {
	Index uint64
	Term  uint64
	// ConfState is the configuration at Index. Nil only in the record at index 0 that Create writes.
	ConfState *raftpb.ConfState
}

var errEncoding = errors.New("not in the encoding expected")

func (m Metadata) encode() []byte {
	b := binary.AppendUvarint([]byte{0x08}, m.NodeID)
	return binary.AppendUvarint(append(b, 0x10), m.ClusterID)
}

func decodeMetadata(b []byte) (m Metadata, err error) {
	return m, decodeVarints(b, nil, &m.NodeID, &m.ClusterID)
}

// encode appends all three fields, zero or not, as raft hands them to etcd's encoder.
func (s HardState) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, 0x08), s.Term)
	dst = binary.AppendUvarint(append(dst, 0x10), s.Vote)
	return binary.AppendUvarint(append(dst, 0x18), s.Commit)
}

// decodeHardState refuses fields it does not know: the checksum does not cover a record's type, and what is left of an
// entry read as a state is the unknown field of its payload.
func decodeHardState(b []byte) (s HardState, err error) {
	return s, decodeVarints(b, nil, &s.Term, &s.Vote, &s.Commit)
}

func (r SnapshotRecord) encode() ([]byte, error) {
	b := binary.AppendUvarint([]byte{0x08}, r.Index)
	b = binary.AppendUvarint(append(b, 0x10), r.Term)
	if r.ConfState == nil {
		return b, nil
	}
	conf, err := proto.Marshal(r.ConfState)
	if err != nil {
		return nil, fmt.Errorf("encode configuration of snapshot record %d: %w", r.Index, err)
	}
	b = binary.AppendUvarint(append(b, 0x1a), uint64(len(conf)))
	return append(b, conf...), nil
}

func decodeSnapshot(b []byte) (r SnapshotRecord, err error) {
	err = decodeVarints(b, func(field uint64, value []byte) error {
		if field != 3 || r.ConfState != nil {
			return errEncoding
		}
		r.ConfState = new(raftpb.ConfState)
		return proto.Unmarshal(value, r.ConfState)
	}, &r.Index, &r.Term)
	return r, err
}

// decodeVarints reads a message whose fields 1 to len(into) are varints. A length-delimited field goes to other; without
// other there may be none.
func decodeVarints(b []byte, other func(field uint64, value []byte) error, into ...*uint64) error {
	for len(b) > 0 {
		tag, rest, ok := cutUvarint(b)
		if !ok {
			return errEncoding
		}
		v, rest, ok := cutUvarint(rest)
		if !ok {
			return errEncoding
		}
		field, wire := tag>>3, tag&7
		switch {
		case wire == 0 && field >= 1 && field <= uint64(len(into)):
			*into[field-1] = v
		case wire == 2 && other != nil && v <= uint64(len(rest)):
			if err := other(field, rest[:v]); err != nil {
				return err
			}
			rest = rest[v:]
		default:
			return errEncoding
		}
		b = rest
	}
	return nil
}

package transport

import (
	"encoding/binary"
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// appendEntry appends what proto.Marshal makes of e. Entries are what a leader sends most of, so this goes by hand;
// BenchmarkMsgAppStream has the numbers.
func appendEntry(dst []byte, e *raftpb.Entry) ([]byte, error) {
	if len(e.ProtoReflect().GetUnknown()) > 0 {
		return proto.MarshalOptions{}.MarshalAppend(dst, e)
	}
	return appendPlainEntry(dst, e), nil
}

// appendPlainEntry appends an entry without unknown fields.
func appendPlainEntry(dst []byte, e *raftpb.Entry) []byte {
	if e.Type != nil {
		dst = binary.AppendUvarint(append(dst, 0x08), uint64(int64(*e.Type)))
	}
	if e.Term != nil {
		dst = binary.AppendUvarint(append(dst, 0x10), *e.Term)
	}
	if e.Index != nil {
		dst = binary.AppendUvarint(append(dst, 0x18), *e.Index)
	}
	if e.Data != nil {
		dst = binary.AppendUvarint(append(dst, 0x22), uint64(len(e.Data)))
		dst = append(dst, e.Data...)
	}
	return dst
}

// plainEntrySize is the length of what appendPlainEntry appends.
func plainEntrySize(e *raftpb.Entry) (n int) {
	if e.Type != nil {
		n += 1 + varintSize(uint64(int64(*e.Type)))
	}
	if e.Term != nil {
		n += 1 + varintSize(*e.Term)
	}
	if e.Index != nil {
		n += 1 + varintSize(*e.Index)
	}
	if e.Data != nil {
		n += 1 + varintSize(uint64(len(e.Data))) + len(e.Data)
	}
	return n
}

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// entryBox holds an entry together with what its pointers point to: one allocation instead of four.
type entryBox struct {
	entry       raftpb.Entry
	typ         raftpb.EntryType
	term, index uint64
}

// decodeEntry returns the entry in b, which belongs to the entry from then on: its data is a part of b.
func decodeEntry(b []byte) (*raftpb.Entry, error) {
	if box := decodePlainEntry(b); box != nil {
		return &box.entry, nil
	}
	e := new(raftpb.Entry)
	return e, proto.Unmarshal(b, e)
}

// decodePlainEntry reads the encoding that members write: the fields in order, nothing behind the data. It returns nil for
// anything else.
func decodePlainEntry(b []byte) *entryBox {
	box := new(entryBox)
	var last byte
	for len(b) > 0 {
		tag := b[0]
		v, n := binary.Uvarint(b[1:])
		if n <= 0 || tag <= last {
			return nil
		}
		b = b[1+n:]
		switch tag {
		case 0x08:
			if v > 1<<31-1 {
				return nil
			}
			box.typ = raftpb.EntryType(v)
			box.entry.Type = &box.typ
		case 0x10:
			box.term = v
			box.entry.Term = &box.term
		case 0x18:
			box.index = v
			box.entry.Index = &box.index
		case 0x22:
			if v != uint64(len(b)) {
				return nil
			}
			box.entry.Data, b = b[:len(b):len(b)], nil
		default:
			return nil
		}
		last = tag
	}
	return box
}

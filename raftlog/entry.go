package raftlog

import (
	"encoding/binary"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// entryHeaderBytesMax bounds what stands before an entry's payload: three varints and a length, each with its tag.
const entryHeaderBytesMax = 4 * (1 + binary.MaxVarintLen64)

// encodeEntry returns what proto.Marshal makes of e in two parts: the fields before the payload, appended to dst, and the
// payload itself, not copied. BenchmarkEncodeEntry compares it with proto.Marshal.
func encodeEntry(dst []byte, e *raftpb.Entry) (head, body []byte, err error) {
	if len(e.ProtoReflect().GetUnknown()) > 0 {
		head, err = proto.MarshalOptions{}.MarshalAppend(dst, e)
		return head, nil, err
	}
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
	}
	return dst, e.Data, nil
}

// entryFields is an entry as the reader meets it: data aliases the buffer read from.
type entryFields struct {
	typ         raftpb.EntryType
	term, index uint64
	data        []byte
	hasType     bool
	hasData     bool
}

// decodeEntry reads the encodings we and etcd write. exact is false for anything else that protobuf accepts, such as
// fields of a later version: message then keeps it whole.
func decodeEntry(b []byte) (f entryFields, exact bool) {
	var last uint64
	for len(b) > 0 {
		field := uint64(b[0] >> 3)
		v, rest, ok := cutUvarint(b[1:])
		if !ok || field <= last {
			return f, false
		}
		switch b[0] {
		case 0x08:
			f.typ, f.hasType = raftpb.EntryType(v), true
			if v > 1<<31-1 {
				return f, false
			}
		case 0x10:
			f.term = v
		case 0x18:
			f.index = v
		case 0x22:
			if v != uint64(len(rest)) {
				return f, false
			}
			f.data, f.hasData, rest = rest, true, nil
		default:
			return f, false
		}
		last, b = field, rest
	}
	return f, last >= 3
}

// parseEntry decodes b by hand, or by protobuf where the hand gives up.
func parseEntry(b []byte) (entryFields, error) {
	f, exact := decodeEntry(b)
	if exact {
		return f, nil
	}
	var e raftpb.Entry
	if err := proto.Unmarshal(b, &e); err != nil {
		return f, err
	}
	return entryFields{
		typ: e.GetType(), term: e.GetTerm(), index: e.GetIndex(), data: e.Data,
		hasType: e.Type != nil, hasData: e.Data != nil,
	}, nil
}

// entryBox holds an entry together with what its pointers point to: one allocation instead of four.
type entryBox struct {
	entry       raftpb.Entry
	typ         raftpb.EntryType
	term, index uint64
}

// message returns b, an encoded entry, as a message that shares nothing with b.
func message(b []byte) (*raftpb.Entry, error) {
	f, exact := decodeEntry(b)
	if !exact || f.term == 0 || f.index == 0 {
		e := new(raftpb.Entry)
		return e, proto.Unmarshal(b, e)
	}
	box := &entryBox{typ: f.typ, term: f.term, index: f.index}
	box.entry.Term, box.entry.Index = &box.term, &box.index
	if f.hasType {
		box.entry.Type = &box.typ
	}
	if f.hasData {
		box.entry.Data = append(make([]byte, 0, len(f.data)), f.data...)
	}
	return &box.entry, nil
}

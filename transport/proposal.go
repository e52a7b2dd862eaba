package transport

import (
	"encoding/binary"

	"go.etcd.io/raft/v3/raftpb"
)

// Proposals that a follower sends on to its leader are most of what a message stream carries while clients write to all members, so they go by
// hand as entries do; BenchmarkProposals has the numbers. Anything unusual goes through protobuf.

// Fields of raftpb.Message, as tags.
const (
	tagType    = 0x08
	tagTo      = 0x10
	tagFrom    = 0x18
	tagTerm    = 0x20
	tagEntries = 0x3a
)

// appendProposal appends what proto.Marshal makes of m, if m is nothing but a proposal.
func appendProposal(dst []byte, m *raftpb.Message) ([]byte, bool) {
	if !isPlainProposal(m) {
		return dst, false
	}
	dst = binary.AppendUvarint(append(dst, tagType), uint64(raftpb.MsgProp))
	for _, field := range []struct {
		tag   byte
		value *uint64
	}{{tagTo, m.To}, {tagFrom, m.From}, {tagTerm, m.Term}} {
		if field.value != nil {
			dst = binary.AppendUvarint(append(dst, field.tag), *field.value)
		}
	}
	for _, e := range m.Entries {
		dst = binary.AppendUvarint(append(dst, tagEntries), uint64(plainEntrySize(e)))
		dst = appendPlainEntry(dst, e)
	}
	return dst, true
}

func isPlainProposal(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgProp || m.Type == nil || m.LogTerm != nil || m.Index != nil || m.Commit != nil || m.Snapshot != nil || m.Reject != nil ||
		m.RejectHint != nil || m.Context != nil || m.Vote != nil || len(m.Responses) > 0 || len(m.ProtoReflect().GetUnknown()) > 0 {
		return false
	}
	for _, e := range m.Entries {
		if len(e.ProtoReflect().GetUnknown()) > 0 {
			return false
		}
	}
	return true
}

// messageBox holds a message together with what its pointers point to.
type messageBox struct {
	message        raftpb.Message
	typ            raftpb.MessageType
	to, from, term uint64
}

// decodeProposal returns the proposal in b, which belongs to its entries from then on; nil if b is something else than appendProposal writes.
func decodeProposal(b []byte) *raftpb.Message {
	if len(b) < 2 || b[0] != tagType || b[1] != byte(raftpb.MsgProp) {
		return nil
	}
	box := &messageBox{typ: raftpb.MsgProp}
	m := &box.message
	m.Type = &box.typ
	last := byte(tagType)
	for b = b[2:]; len(b) > 0; {
		tag := b[0]
		v, n := binary.Uvarint(b[1:])
		if n <= 0 || tag < last || tag == last && tag != tagEntries {
			return nil
		}
		b, last = b[1+n:], tag
		switch tag {
		case tagTo:
			box.to, m.To = v, &box.to
		case tagFrom:
			box.from, m.From = v, &box.from
		case tagTerm:
			box.term, m.Term = v, &box.term
		case tagEntries:
			if v > uint64(len(b)) {
				return nil
			}
			entry := decodePlainEntry(b[:v:v])
			if entry == nil {
				return nil
			}
			m.Entries, b = append(m.Entries, &entry.entry), b[v:]
		default:
			return nil
		}
	}
	return m
}

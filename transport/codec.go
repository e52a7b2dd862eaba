package transport

import (
	"encoding/binary"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// stream is one of the two kinds of connection that stay open. Its text is the one in the URL.
type stream string

const (
	streamMsgApp  stream = "msgapp"  // a leader's appends, and nothing else
	streamMessage stream = "message" // everything else that is small
)

// An encoder appends a message in the encoding of its stream. A new connection begins with a new encoder.
type encoder interface {
	encode(dst []byte, m *raftpb.Message) ([]byte, error)
}

// A decoder reads the next message of its stream. io.EOF says that the stream ended between two messages.
type decoder interface {
	decode() (*raftpb.Message, error)
}

func (s stream) encoder() encoder {
	if s == streamMsgApp {
		return new(msgAppEncoder)
	}
	return messageEncoder{}
}

// decoder reads what remote sends to local. Messages above limit bytes end the stream with ErrTooLarge.
func (s stream) decoder(r io.Reader, local, remote, limit uint64) decoder {
	f := newFrames(r, limit)
	if s == streamMsgApp {
		return &msgAppDecoder{frames: f, local: local, remote: remote}
	}
	return messageDecoder{f}
}

// linkHeartbeat keeps a connection alive. raft sends nothing without a sender and a receiver, so it cannot be mistaken.
var linkHeartbeat = &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum()}

func isLinkHeartbeat(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgHeartbeat && m.GetFrom() == 0 && m.GetTo() == 0
}

// messageEncoder writes any message.
//
//	Shape   length (8 B, big endian) | raftpb.Message
type messageEncoder struct{}

func (messageEncoder) encode(dst []byte, m *raftpb.Message) ([]byte, error) {
	return appendFrame(dst, func(b []byte) ([]byte, error) {
		if b, plain := appendProposal(b, m); plain {
			return b, nil
		}
		return proto.MarshalOptions{}.MarshalAppend(b, m)
	})
}

type messageDecoder struct{ frames }

func (d messageDecoder) decode() (*raftpb.Message, error) {
	size, err := d.uint64()
	if err != nil {
		return nil, err
	}
	return d.message(size)
}

// message reads the size bytes of an encoded message.
func (f frames) message(size uint64) (*raftpb.Message, error) {
	b, err := f.bytes(size)
	if err != nil {
		return nil, err
	}
	if m := decodeProposal(b); m != nil {
		return m, nil
	}
	m := new(raftpb.Message)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("decode a message of %d bytes: %w", size, err)
	}
	return m, nil
}

// Kinds of what is sent on a msgapp stream.
const (
	kindHeartbeat = 0
	kindEntries   = 1 // an append that continues the one before
	kindMessage   = 2 // any append
)

// position is where the last append on a msgapp stream ended. Both sides keep it, so that an append which continues
// there need not name its sender, its receiver, its term and the place in the log.
type position struct{ term, index uint64 }

func (p *position) after(m *raftpb.Message) {
	p.term, p.index = m.GetTerm(), m.GetIndex()
	if n := len(m.Entries); n > 0 {
		p.index = m.Entries[n-1].GetIndex()
	}
}

// continues reports whether m begins where the one before ended. Its entries then follow an entry of the present term.
func (p *position) continues(m *raftpb.Message) bool {
	return m.GetIndex() == p.index && m.GetLogTerm() == p.term && m.GetTerm() == p.term
}

// msgAppEncoder writes appends. Numbers are 8 bytes, big endian.
//
//	Shape   heartbeat   0x00
//	        entries     0x01 | count | count times ( length | raftpb.Entry ) | commit
//	        message     0x02 | length | raftpb.Message
type msgAppEncoder struct{ at position }

func (e *msgAppEncoder) encode(dst []byte, m *raftpb.Message) ([]byte, error) {
	switch {
	case isLinkHeartbeat(m):
		return append(dst, kindHeartbeat), nil
	case e.at.continues(m):
		return e.entries(dst, m)
	}
	e.at.after(m)
	return messageEncoder{}.encode(append(dst, kindMessage), m)
}

func (e *msgAppEncoder) entries(dst []byte, m *raftpb.Message) ([]byte, error) {
	dst = binary.BigEndian.AppendUint64(append(dst, kindEntries), uint64(len(m.Entries)))
	for _, entry := range m.Entries {
		var err error
		if dst, err = appendFrame(dst, func(b []byte) ([]byte, error) { return appendEntry(b, entry) }); err != nil {
			return dst, fmt.Errorf("encode entry %d: %w", entry.GetIndex(), err)
		}
	}
	e.at.index += uint64(len(m.Entries))
	return binary.BigEndian.AppendUint64(dst, m.GetCommit()), nil
}

type msgAppDecoder struct {
	frames
	local, remote uint64
	at            position
}

func (d *msgAppDecoder) decode() (*raftpb.Message, error) {
	kind, err := d.r.ReadByte()
	if err != nil {
		return nil, err
	}
	if kind == kindHeartbeat {
		return linkHeartbeat, nil
	}
	n, err := d.uint64()
	if err != nil {
		return nil, inside(err)
	}
	switch kind {
	case kindEntries:
		return d.entries(n)
	case kindMessage:
		m, err := d.message(n)
		if err == nil {
			d.at.after(m)
		}
		return m, err
	}
	return nil, fmt.Errorf("kind %d on a msgapp stream", kind)
}

// entryOverhead is counted for every entry against the limit of a message: about the memory an entry takes beside its bytes.
const entryOverhead = 96

// entries reads an append of count entries that continues the one before.
func (d *msgAppDecoder) entries(count uint64) (*raftpb.Message, error) {
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(d.remote), To: new(d.local),
		Term: new(d.at.term), LogTerm: new(d.at.term), Index: new(d.at.index),
		Entries: make([]*raftpb.Entry, 0, min(count, trustedBytes/entryOverhead)),
	}
	left := d.limit
	for range count {
		size, err := d.uint64()
		if err != nil {
			return nil, inside(err)
		}
		if left < entryOverhead || size > left-entryOverhead {
			return nil, fmt.Errorf("%w: entry %d of %d has %d bytes, at most %d are read", ErrTooLarge, len(m.Entries), count, size, d.limit)
		}
		left -= size + entryOverhead
		b, err := d.bytes(size)
		if err != nil {
			return nil, err
		}
		entry, err := decodeEntry(b)
		if err != nil {
			return nil, fmt.Errorf("decode an entry of %d bytes: %w", size, err)
		}
		m.Entries = append(m.Entries, entry)
		d.at.index++
	}
	commit, err := d.uint64()
	if err != nil {
		return nil, inside(err)
	}
	m.Commit = new(commit)
	return m, nil
}

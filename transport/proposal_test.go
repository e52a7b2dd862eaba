package transport

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// proposalsOf is a proposal of n entries of so many bytes, as raft sends it on.
func proposalsOf(n, bytes int) *raftpb.Message {
	m := &raftpb.Message{Type: raftpb.MsgProp.Enum(), To: new(uint64(1 << 60)), From: new(uint64(1 << 50))}
	for range n {
		m.Entries = append(m.Entries, &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Data: make([]byte, bytes)})
	}
	return m
}

// TestProposalIsWhatProtobufMakes encodes proposals, plain ones and others, and expects protobuf's bytes, and the proposal back.
func TestProposalIsWhatProtobufMakes(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	plain := 0
	for range 2000 {
		m := proposalsOf(r.IntN(4), r.IntN(300))
		if r.IntN(4) == 0 {
			m.Term = new(r.Uint64())
		}
		for _, e := range m.Entries {
			switch r.IntN(6) {
			case 0:
				e.Term, e.Index = new(r.Uint64()), new(r.Uint64())
			case 1:
				e.Type = raftpb.EntryConfChangeV2.Enum()
			case 2:
				e.Type, e.Data = nil, nil
			}
		}
		switch r.IntN(8) {
		case 0:
			m.Context = []byte("c")
		case 1:
			m.To = nil
		}
		want, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got, byHand := appendProposal([]byte("before"), m)
		if byHand == (m.Context != nil) {
			t.Fatalf("%v by hand: %v", m, byHand)
		}
		if !byHand {
			continue
		}
		plain++
		if !bytes.Equal(got[len("before"):], want) {
			t.Fatalf("%v is %x, protobuf says %x", m, got, want)
		}
		if back := decodeProposal(want); !proto.Equal(back, m) {
			t.Fatalf("%v came back as %v", m, back)
		}
	}
	if plain < 1000 {
		t.Errorf("%d plain proposals", plain)
	}
}

// FuzzProposal compares the decoder with protobuf: what it reads, protobuf reads alike.
func FuzzProposal(f *testing.F) {
	b, err := proto.Marshal(proposalsOf(2, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add([]byte{tagType, byte(raftpb.MsgProp), tagFrom, 0x80, 0x00, tagEntries, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		got := decodeProposal(bytes.Clone(b))
		if got == nil {
			return
		}
		want := new(raftpb.Message)
		if err := proto.Unmarshal(b, want); err != nil || !proto.Equal(got, want) {
			t.Fatalf("%x is %v, protobuf says %v, %v", b, got, want, err)
		}
	})
}

// BenchmarkProposals asks what a proposal that is sent on costs a follower and its leader per message. Expected: a copy and two allocations per
// entry; with reflection it was four times that.
func BenchmarkProposals(b *testing.B) {
	for _, n := range []int{1, 16} {
		m := proposalsOf(n, 300)
		frame := encodeAll(b, streamMessage, []*raftpb.Message{m})
		b.Run(fmt.Sprintf("encode/entries=%d", n), func(b *testing.B) {
			buf := make([]byte, 0, len(frame))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (messageEncoder{}).encode(buf, m); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("decode/entries=%d", n), func(b *testing.B) {
			r := bytes.NewReader(frame)
			dec := streamMessage.decoder(io.Reader(r), 2, 1, messageBytesMax).(messageDecoder)
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(frame)
				dec.r.Reset(r)
				if _, err := dec.decode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

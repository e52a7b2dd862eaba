package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// randomAppends returns appends as a leader sends them: most continue the one before, some begin elsewhere or in a new term.
func randomAppends(r *rand.Rand, n int) []*raftpb.Message {
	var ms []*raftpb.Message
	term, index := uint64(1+r.IntN(3)), uint64(r.IntN(1000))
	for range n {
		logTerm := term
		switch r.IntN(8) {
		case 0:
			term++
		case 1:
			index = uint64(r.IntN(1 << 20))
		}
		m := &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(term), LogTerm: new(logTerm),
			Index: new(index), Commit: new(index / 2), Entries: []*raftpb.Entry{},
		}
		for range r.IntN(4) {
			index++
			e := &raftpb.Entry{Term: new(term), Index: new(index)}
			if r.IntN(4) > 0 {
				e.Type = raftpb.EntryType(r.IntN(3)).Enum()
			}
			if r.IntN(4) > 0 {
				e.Data = bytes.Repeat([]byte{byte(index)}, r.IntN(300))
			}
			m.Entries = append(m.Entries, e)
		}
		ms = append(ms, m)
		if r.IntN(10) == 0 {
			ms = append(ms, linkHeartbeat)
		}
	}
	return ms
}

func encodeAll(t testing.TB, kind stream, ms []*raftpb.Message) []byte {
	t.Helper()
	var b []byte
	enc := kind.encoder()
	for _, m := range ms {
		var err error
		if b, err = enc.encode(b, m); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func decodeAll(kind stream, r io.Reader, limit uint64) (ms []*raftpb.Message, err error) {
	dec := kind.decoder(r, 2, 1, limit)
	for {
		m, err := dec.decode()
		if err != nil {
			return ms, err
		}
		ms = append(ms, m)
	}
}

// TestStreamsCarryMessages sends random appends through each encoding, in reads of one byte as well, and compares.
func TestStreamsCarryMessages(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ms := randomAppends(rand.New(rand.NewPCG(seed, 0)), 300)
	for _, kind := range []stream{streamMsgApp, streamMessage} {
		b := encodeAll(t, kind, ms)
		for _, r := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b))} {
			got, err := decodeAll(kind, r, messageBytesMax)
			if err != io.EOF {
				t.Fatalf("%s: ended with %v, want EOF", kind, err)
			}
			if len(got) != len(ms) {
				t.Fatalf("%s: %d messages came, %d were sent", kind, len(got), len(ms))
			}
			for i := range ms {
				if !proto.Equal(got[i], ms[i]) {
					t.Fatalf("%s: message %d is %v, want %v", kind, i, got[i], ms[i])
				}
			}
		}
	}
}

// TestContinuedAppendsAreShort checks that an append which continues the one before carries only its entries and the
// commit index.
func TestContinuedAppendsAreShort(t *testing.T) {
	appendAt := func(index uint64) *raftpb.Message {
		return &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(7)), LogTerm: new(uint64(7)),
			Index: new(index), Commit: new(index), Entries: []*raftpb.Entry{{Term: new(uint64(7)), Index: new(index + 1)}},
		}
	}
	enc := streamMsgApp.encoder()
	for i, want := range []byte{kindMessage, kindEntries, kindEntries} { // the first one continues nothing
		b, err := enc.encode(nil, appendAt(uint64(10+i)))
		if err != nil {
			t.Fatal(err)
		}
		if b[0] != want {
			t.Fatalf("append %d is of kind %d, want %d", i, b[0], want)
		}
	}
	if b, err := enc.encode(nil, appendAt(99)); err != nil || b[0] != kindMessage {
		t.Fatalf("an append elsewhere is of kind %d (%v), want %d", b[0], err, kindMessage)
	}
}

// TestCutStreams cuts a stream at every byte: only a cut between two messages may look like an end.
func TestCutStreams(t *testing.T) {
	ms := randomAppends(rand.New(rand.NewPCG(1, 2)), 12)
	for _, kind := range []stream{streamMsgApp, streamMessage} {
		ends := map[int]bool{0: true}
		var b []byte
		enc := kind.encoder()
		for _, m := range ms {
			var err error
			if b, err = enc.encode(b, m); err != nil {
				t.Fatal(err)
			}
			ends[len(b)] = true
		}
		for n := range b {
			_, err := decodeAll(kind, bytes.NewReader(b[:n]), messageBytesMax)
			if want := error(io.EOF); ends[n] && err != want {
				t.Fatalf("%s cut at %d, between two messages: %v", kind, n, err)
			} else if !ends[n] && (err == nil || err == want) {
				t.Fatalf("%s cut at %d, inside a message: %v", kind, n, err)
			}
		}
	}
}

// TestLimit checks that a message above the limit ends the stream and that nothing is made of a length without bytes behind it.
func TestLimit(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	half := []byte{0, 0, 0, 0, 0x1f, 0, 0, 0}
	cases := []struct {
		name string
		kind stream
		in   []byte
		want error
	}{
		{"message of 2^64-1 bytes", streamMessage, huge, ErrTooLarge},
		{"message that is not there", streamMessage, half, io.ErrUnexpectedEOF},
		{"append of 2^64-1 bytes", streamMsgApp, append([]byte{kindMessage}, huge...), ErrTooLarge},
		{"2^64-1 entries", streamMsgApp, append([]byte{kindEntries}, huge...), io.ErrUnexpectedEOF},
		{"entry of 2^64-1 bytes", streamMsgApp, append([]byte{kindEntries, 0, 0, 0, 0, 0, 0, 0, 1}, huge...), ErrTooLarge},
		{"entry that is not there", streamMsgApp, append([]byte{kindEntries, 0, 0, 0, 0, 0, 0, 0, 1}, half...), io.ErrUnexpectedEOF},
		{"unknown kind", streamMsgApp, append([]byte{9}, half...), nil},
	}
	for _, c := range cases {
		_, err := decodeAll(c.kind, bytes.NewReader(c.in), messageBytesMax)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	small := encodeAll(t, streamMessage, []*raftpb.Message{{Context: make([]byte, 100)}})
	if _, err := decodeAll(streamMessage, bytes.NewReader(small), 99); !errors.Is(err, ErrTooLarge) {
		t.Errorf("102 bytes with a limit of 99: %v", err)
	}
}

// TestLargeMessages sends entries beyond what a claimed length is trusted for.
func TestLargeMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int{trustedBytes - 1, trustedBytes, trustedBytes + 1, 3*trustedBytes + 7} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		m := &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1)), LogTerm: new(uint64(1)),
			Index: new(uint64(1)), Commit: new(uint64(1)), Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(uint64(2)), Data: data}},
		}
		next := proto.Clone(m).(*raftpb.Message)
		next.Index, next.Entries[0].Index = new(uint64(2)), new(uint64(3))
		b := encodeAll(t, streamMsgApp, []*raftpb.Message{m, next})
		got, err := decodeAll(streamMsgApp, bytes.NewReader(b), messageBytesMax)
		if err != io.EOF || len(got) != 2 || !proto.Equal(got[0], m) || !proto.Equal(got[1], next) {
			t.Fatalf("%d bytes of data: %d messages, %v", size, len(got), err)
		}
	}
}

// TestEntryIsWhatProtobufMakes compares the entry codec with proto on random entries, fields of later versions included.
func TestEntryIsWhatProtobufMakes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		e := new(raftpb.Entry)
		if r.IntN(5) > 0 {
			e.Type = raftpb.EntryType(r.IntN(3)).Enum()
		}
		if r.IntN(9) > 0 {
			e.Term = new(r.Uint64() >> r.IntN(64))
		}
		if r.IntN(9) > 0 {
			e.Index = new(r.Uint64() >> r.IntN(64))
		}
		if r.IntN(5) > 0 {
			e.Data = make([]byte, r.IntN(200))
		}
		if r.IntN(9) == 0 {
			e.ProtoReflect().SetUnknown([]byte{0x28, 0x07})
		}
		want, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendEntry(nil, e)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v encodes to %x (%v), want %x", e, got, err, want)
		}
		back, err := decodeEntry(got)
		if err != nil || !proto.Equal(back, e) {
			t.Fatalf("%x decodes to %v (%v), want %v", got, back, err, e)
		}
	}
}

// FuzzMsgAppStream checks that no bytes make the decoder panic or take memory without end, and that what it accepts
// means the same after another trip.
func FuzzMsgAppStream(f *testing.F) { fuzzStream(f, streamMsgApp) }

// FuzzMessageStream is the same for the other stream.
func FuzzMessageStream(f *testing.F) { fuzzStream(f, streamMessage) }

func fuzzStream(f *testing.F, kind stream) {
	f.Add([]byte{})
	f.Add(encodeAll(f, kind, randomAppends(rand.New(rand.NewPCG(1, 1)), 5)))
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := decodeAll(kind, bytes.NewReader(b), 1<<16)
		if err == nil {
			t.Fatal("a stream without end")
		}
		again, err := decodeAll(streamMessage, bytes.NewReader(encodeAll(t, streamMessage, ms)), messageBytesMax)
		if err != io.EOF || len(again) != len(ms) {
			t.Fatalf("%d messages, %d after another trip: %v", len(ms), len(again), err)
		}
		for i := range ms {
			if !proto.Equal(ms[i], again[i]) {
				t.Fatalf("message %d is %v, was %v", i, again[i], ms[i])
			}
		}
	})
}

// FuzzEntry compares the entry decoder with protobuf: same acceptance, same meaning.
func FuzzEntry(f *testing.F) {
	f.Add([]byte{0x08, 0x01, 0x10, 0x02, 0x18, 0x03, 0x22, 0x01, 'x'})
	f.Add([]byte{0x10, 0x80, 0x00, 0x18, 0x03})
	f.Fuzz(func(t *testing.T, b []byte) {
		want := new(raftpb.Entry)
		refused := proto.Unmarshal(b, want)
		got, err := decodeEntry(bytes.Clone(b))
		if (err == nil) != (refused == nil) {
			t.Fatalf("%x: %v, protobuf says %v", b, err, refused)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("%x is %v, protobuf says %v", b, got, want)
		}
	})
}

// BenchmarkMsgAppStream asks what an append costs on its way into and out of a stream, by number and size of its entries.
func BenchmarkMsgAppStream(b *testing.B) {
	for _, shape := range []struct{ entries, bytes int }{{1, 256}, {64, 256}, {1, 64 << 10}} {
		m := &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(0)), LogTerm: new(uint64(0)),
			Index: new(uint64(0)), Commit: new(uint64(1)),
		}
		for i := range shape.entries {
			m.Entries = append(m.Entries, &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Term: new(uint64(3)), Index: new(uint64(1 + i)), Data: make([]byte, shape.bytes)})
		}
		name := fmt.Sprintf("entries=%d/bytes=%d", shape.entries, shape.bytes)
		frame := encodeAll(b, streamMsgApp, []*raftpb.Message{m})
		b.Run("encode/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(frame)))
			buf := make([]byte, 0, len(frame))
			for b.Loop() {
				if _, err := new(msgAppEncoder).encode(buf, m); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("decode/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			r := bytes.NewReader(frame)
			dec := streamMsgApp.decoder(r, 2, 1, messageBytesMax).(*msgAppDecoder)
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

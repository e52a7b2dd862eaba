package gateway

import (
	"bytes"
	"math/rand/v2"
	"net/http/httptest"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// TestRangeJSON: what becomes of random answers piece by piece is what the generated handlers make of them.
func TestRangeJSON(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	m := newMarshaler()
	for range 2000 {
		answer := randomAnswer(r)
		want, err := m.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		body, err := proto.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		if sent, err := sendRange(w, cut(r, body)); err != nil || !sent {
			t.Fatalf("%v: sent %v, %v", answer, sent, err)
		}
		if !bytes.Equal(w.Body.Bytes(), want) {
			t.Fatalf("%.300s\nwant %.300s", w.Body, want)
		}
	}
}

func randomAnswer(r *rand.Rand) *pb.RangeResponse {
	number := func() int64 { return int64(r.Uint64()>>r.IntN(64)) * int64(r.IntN(3)-1) }
	text := func(max int) []byte {
		b := make([]byte, r.IntN(max))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	a := &pb.RangeResponse{Count: number(), More: r.IntN(2) == 0}
	if r.IntN(8) > 0 {
		a.Header = &pb.ResponseHeader{ClusterId: r.Uint64() * r.Uint64N(2), MemberId: uint64(number()), Revision: number(), RaftTerm: uint64(number())}
	}
	for range r.IntN(8) {
		v := &mvccpb.KeyValue{Key: text(40), CreateRevision: number(), ModRevision: number(), Version: number(), Lease: number()}
		if v.Value = text(300); r.IntN(30) == 0 {
			v.Value = bytes.Repeat(text(100), r.IntN(5000))
		}
		a.Kvs = append(a.Kvs, v)
	}
	return a
}

// cut cuts an encoded message between some of its fields.
func cut(r *rand.Rand, body []byte) (pieces mem.BufferSlice) {
	from, at := 0, 0
	for at < len(body) {
		_, _, n := protowire.ConsumeField(body[at:])
		at += n
		if r.IntN(3) == 0 {
			pieces = append(pieces, mem.SliceBuffer(body[from:at]))
			from = at
		}
	}
	return append(pieces, mem.SliceBuffer(body[from:]))
}

// broken is a piece that cannot be read any more.
type broken struct{ mem.SliceBuffer }

// Len implements mem.Buffer.
func (broken) Len() int { return 10 }

// TestRangeBreaksOff: an answer that cannot be read to its end, or makes no sense, is an error, before or after something was sent.
func TestRangeBreaksOff(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	big := &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: []byte("k"), Value: make([]byte, 1<<20)}}}
	body, err := proto.Marshal(big)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		pieces mem.BufferSlice
		sent   bool
	}{
		{"at once", mem.BufferSlice{broken{}}, false},
		{"later", append(cut(r, body), broken{}), true},
		{"an unknown field", mem.BufferSlice{mem.SliceBuffer(protowire.AppendTag(nil, 9, protowire.VarintType))}, false},
		{"half a field", mem.BufferSlice{mem.SliceBuffer(body[:100])}, false},
	} {
		if sent, err := sendRange(httptest.NewRecorder(), c.pieces); err == nil || sent != c.sent {
			t.Errorf("%s: sent %v, %v", c.name, sent, err)
		}
	}
}

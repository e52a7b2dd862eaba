package api

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// streamed puts the messages of a range stream together and counts them.
func (s *service) streamed(q *pb.RangeRequest) (*pb.RangeResponse, int, error) {
	s.t.Helper()
	stream, err := s.kv.RangeStream(s.t.Context(), q)
	if err != nil {
		s.t.Fatal(err)
	}
	whole, n := &pb.RangeResponse{}, 0
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return whole, n, nil
		}
		if err != nil {
			return nil, n, err
		}
		n++
		r := part.RangeResponse
		if whole.Header != nil {
			s.t.Error("a message after the one with the header")
		}
		if r.Header == nil && (r.Count != 0 || r.More) {
			s.t.Error("count and more stand in the last message only")
		}
		whole.Header, whole.Count, whole.More = r.Header, r.Count, r.More
		whole.Kvs = append(whole.Kvs, r.Kvs...)
	}
}

// TestRangeStreamIsARange asks for random ranges in one message and as a stream: together the messages of the stream
// are the answer, and there are more than one where the answer is large.
func TestRangeStreamIsARange(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		s.api.cfg.RequestBytesMax = 4 << 10
		key := func() []byte { return []byte(fmt.Sprintf("k%03d", r.IntN(400))) }
		for range 1200 {
			if _, err := s.kv.Put(t.Context(), &pb.PutRequest{Key: key(), Value: []byte(strings.Repeat("x", r.IntN(200)))}); err != nil {
				t.Fatal(err)
			}
		}
		longest := 0
		for range 200 {
			q := &pb.RangeRequest{Key: key(), RangeEnd: key(), KeysOnly: r.IntN(4) == 0, CountOnly: r.IntN(8) == 0}
			switch r.IntN(4) {
			case 0:
				q.RangeEnd = []byte{0}
			case 1:
				q.RangeEnd = nil
			}
			if r.IntN(2) == 0 {
				q.Limit = int64(r.IntN(60)) - 2
			}
			if r.IntN(2) == 0 {
				q.Revision = int64(r.IntN(1200)) - 1
			}
			want, err := s.kv.Range(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			got, n, err := s.streamed(q)
			if err != nil || !proto.Equal(got, want) {
				t.Fatalf("%v\nstreamed %v, %v\nwant %v", q, got, err, want)
			}
			if n > 1 && q.CountOnly {
				t.Errorf("%d messages with a count", n)
			}
			longest = max(longest, n)
		}
		if longest < 5 {
			t.Errorf("%d messages at most for 40 KB", longest)
		}
	})
}

// TestRangeStreamReadsOneRevision writes and compacts between the messages of a stream: it goes on at the revision of its
// first message, whatever revision meaning "latest" was asked for, and ends when that is compacted.
func TestRangeStreamReadsOneRevision(t *testing.T) {
	for _, revision := range []int64{0, -1, -5} {
		inBubble(t, func(t *testing.T, s *service) {
			s.api.cfg.RequestBytesMax = 1 // pieces stay at ten keys and below
			for i := range 100 {
				s.put(fmt.Sprintf("k%03d", i), "old")
			}
			feed := &pausedStream{s: s, q: &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Revision: revision}}
			feed.between = func(n int) {
				if n == 1 {
					for i := range 100 {
						s.put(fmt.Sprintf("k%03d", i), "new")
					}
					s.put("k9999", "new")
				}
			}
			rows := feed.run()
			if len(rows) != 100 {
				t.Errorf("revision %d: %d keys, want 100", revision, len(rows))
			}
			for _, row := range rows {
				if string(row.Value) != "old" {
					t.Fatalf("revision %d: %s is %s in a stream that began before", revision, row.Key, row.Value)
				}
			}
			feed.between = func(n int) {
				if n == 1 {
					rev := s.put("k", "x")
					if _, err := s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: rev}); err != nil {
						t.Fatal(err)
					}
				}
			}
			feed.run()
			if feed.err == nil || feed.err.Error() != rpctypes.ErrGRPCCompacted.Error() {
				t.Errorf("a compaction between the messages: %v", feed.err)
			}
		})
	}
}

// pausedStream runs a range stream and calls between after each message, before the next piece is read.
type pausedStream struct {
	s       *service
	q       *pb.RangeRequest
	between func(n int)
	err     error

	rows []*mvccpb.KeyValue
	n    int
	fakeStream
}

func (p *pausedStream) run() []*mvccpb.KeyValue {
	p.rows, p.n = nil, 0
	p.ctx = p.s.t.Context()
	p.recv = func(m any) error {
		body, err := proto.Marshal(p.q)
		if err != nil {
			return err
		}
		return m.(inbound).read(buffers(body))
	}
	p.send = func(m any) error {
		var r pb.RangeStreamResponse
		body, err := wholeOf(m)
		if err != nil {
			return err
		}
		if err := proto.Unmarshal(body, &r); err != nil {
			return err
		}
		p.rows = append(p.rows, r.RangeResponse.Kvs...)
		p.n++
		p.between(p.n)
		return nil
	}
	p.err = toWire(p.s.api.rangeStream(&p.fakeStream))
	return p.rows
}

// TestHeaders: who answers stands in every header; the revision is that of the answer.
func TestHeaders(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		check := func(what string, h *pb.ResponseHeader, revision int64) {
			t.Helper()
			if h.ClusterId != s.member.ClusterID() || h.MemberId != uint64(s.member.ID()) || h.RaftTerm != 2 || h.Revision != revision {
				t.Errorf("%s: header %v, want revision %d", what, h, revision)
			}
		}
		for i := range 3 {
			s.put(fmt.Sprint("k", i), "v")
		}
		old, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k0"), Revision: 2})
		if err != nil {
			t.Fatal(err)
		}
		check("a range in the past", old.Header, 4)
		del, err := s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("none")})
		if err != nil {
			t.Fatal(err)
		}
		check("a deletion of nothing", del.Header, 4)
		txn, err := s.kv.Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k1")}}}}})
		if err != nil {
			t.Fatal(err)
		}
		check("a reading transaction", txn.Header, 4)
		if nested := txn.Responses[0].GetResponseRange().Header; !proto.Equal(nested, &pb.ResponseHeader{Revision: 4}) {
			t.Errorf("a nested header says more than its revision: %v", nested)
		}
		compact, err := s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: 3})
		if err != nil {
			t.Fatal(err)
		}
		check("a compaction", compact.Header, 4)
		members, err := s.cluster.MemberList(t.Context(), &pb.MemberListRequest{Linearizable: true})
		if err != nil {
			t.Fatal(err)
		}
		check("the member list", members.Header, 0)
	})
}

// TestOddEncodings sends requests that are valid protobuf but not in the form generated code writes: fields twice, in
// another order, unknown ones. They mean the same; what is no protobuf is refused.
func TestOddEncodings(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		bytesField := func(n protowire.Number, v string) []byte {
			return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), v)
		}
		join := func(parts ...[]byte) (all []byte) {
			for _, p := range parts {
				all = append(all, p...)
			}
			return all
		}
		unknown := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 7)
		for _, c := range []struct {
			method string
			body   []byte
			code   codes.Code
		}{
			{"Put", join(bytesField(2, "v"), bytesField(1, "k")), codes.OK},
			{"Put", join(bytesField(1, "no"), bytesField(2, "no"), bytesField(1, "k"), bytesField(2, "v")), codes.OK},
			{"Put", join(bytesField(1, "k"), unknown, bytesField(2, "v")), codes.OK},
			{"Put", join(bytesField(1, "k"), []byte{0x12, 0x05, 'v'}), codes.Internal},
			{"Range", join(bytesField(2, ""), bytesField(1, "k"), unknown), codes.OK},
			{"Range", []byte{0x0a}, codes.Internal},
			{"DeleteRange", join(unknown, bytesField(1, "other")), codes.OK},
			{"Txn", join(bytesField(3, ""), unknown), codes.InvalidArgument}, // an operation of no kind
			{"Txn", []byte{0xff}, codes.Internal},
			{"Compact", []byte{0xff}, codes.Internal},
		} {
			var answer []byte
			err := s.conn.Invoke(t.Context(), "/etcdserverpb.KV/"+c.method, &c.body, &answer, rawCodec())
			if status.Code(err) != c.code {
				t.Errorf("%s of %x: %v, want %v", c.method, c.body, err, c.code)
			}
		}
		r, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")})
		if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" || r.Kvs[0].Version != 3 {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// TestTooLarge: a request above the member's bound is refused in etcd's words, one far above by gRPC.
func TestTooLarge(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		for _, c := range []struct {
			size int
			want codes.Code
		}{{1<<20 - 100, codes.OK}, {1<<20 + 1, codes.InvalidArgument}, {1<<20 + requestExtra + 1, codes.ResourceExhausted}} {
			_, err := s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, c.size)})
			if status.Code(err) != c.want {
				t.Errorf("a put of %d bytes: %v", c.size, err)
			}
		}
	})
}

package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Of the tests' answers: the bound of all, and what the keys under "big/" take.
const (
	fewAnswerBytes = 4 << 20
	bigKeys        = 60
	bigValue       = 200 << 10
)

// withBig runs a test in a bubble with 12 MB of keys and room for 4 MB of answers.
func withBig(t *testing.T, test func(t *testing.T, s *service)) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.AnswerBytes = fewAnswerBytes
		s := serve(t, testServerConfig(), cfg)
		for i := range bigKeys {
			s.put(fmt.Sprintf("big/%02d", i), string(bytes.Repeat([]byte{byte(i)}, bigValue-i)))
		}
		test(t, s)
	})
}

func bigRange() *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte("big/"), RangeEnd: []byte("big0")}
}

// checkBig compares an answer with what was put, in key order unless sorted otherwise.
func checkBig(t *testing.T, r *pb.RangeResponse) {
	t.Helper()
	if len(r.Kvs) != bigKeys || r.Count != bigKeys {
		t.Errorf("%d keys of %d, want %d", len(r.Kvs), r.Count, bigKeys)
	}
	for i, v := range r.Kvs {
		if string(v.Key) != fmt.Sprintf("big/%02d", i) || !bytes.Equal(v.Value, bytes.Repeat([]byte{byte(i)}, bigValue-i)) {
			t.Errorf("key %d is %s with %d bytes", i, v.Key, len(v.Value))
		}
	}
}

// wantRoom says that no answer holds anything any more.
func wantRoom(t *testing.T, s *service) {
	t.Helper()
	synctest.Wait()
	a := s.api.answers
	if !a.budget.TryAcquire(a.max) {
		t.Fatal("room has not been given back")
	}
	a.budget.Release(a.max)
	if n := max(a.max/4, workBytes); !a.again.TryAcquire(n) {
		t.Fatal("room for what is read again has not been given back")
	} else {
		a.again.Release(n)
	}
	if len(a.turns) != measuredMost || len(a.whole) != 1 {
		t.Fatalf("%d of %d turns to be measured have been given back, %d of 1 to be whole", len(a.turns), measuredMost, len(a.whole))
	}
	if a.small != 0 {
		t.Fatalf("%d bytes of small answers have not been given back", a.small)
	}
}

var unlimited = grpc.MaxCallRecvMsgSize(math.MaxInt32)

// unread begins a range whose answer is read when finish is called.
func unread(t *testing.T, s *service, q *pb.RangeRequest) (finish func() (*pb.RangeResponse, error)) {
	t.Helper()
	stream, err := s.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, pb.KV_Range_FullMethodName, unlimited)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(q); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(parkCheck) // it is made at the pace of writes
	return func() (*pb.RangeResponse, error) {
		r := new(pb.RangeResponse)
		err := stream.RecvMsg(r)
		return r, err
	}
}

// TestTurns: no more than measuredMost large answers are measured at a time; others wait, and give up when their callers do or when it takes too long.
func TestTurns(t *testing.T) {
	withBig(t, func(t *testing.T, s *service) {
		for range measuredMost {
			<-s.api.answers.turns
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.kv.Range(short, bigRange(), unlimited); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("who gave up while it waited got %v", err)
		}
		if _, err := s.kv.Range(t.Context(), bigRange(), unlimited); status.Convert(err).Message() != "etcdserver: too many requests" {
			t.Errorf("who waited for too long got %v", err)
		}
		began := time.Now()
		time.AfterFunc(roomTimeout/2, func() { s.api.answers.turns <- struct{}{} })
		r, err := s.kv.Range(t.Context(), bigRange(), unlimited)
		if err != nil || time.Since(began) < roomTimeout/2 {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		checkBig(t, r)
		for range measuredMost - 1 {
			s.api.answers.turns <- struct{}{}
		}
		wantRoom(t, s)
	})
}

// TestLargeAnswers: answers of which each is three times the bound of all are right, many at once, and hold nothing afterwards.
func TestLargeAnswers(t *testing.T) {
	withBig(t, func(t *testing.T, s *service) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				r, err := s.kv.Range(t.Context(), bigRange(), unlimited)
				if err != nil {
					t.Error(err)
					return
				}
				checkBig(t, r)
			})
		}
		all.Wait()
		wantRoom(t, s)
	})
}

// TestLargeStreams: the same for streams, whose messages are read slowly. There are as many as there is room for the pieces of: a
// connection on which more are read again is given up in the end.
func TestLargeStreams(t *testing.T) {
	withBig(t, func(t *testing.T, s *service) {
		var all sync.WaitGroup
		for i := range fewAnswerBytes / workBytes {
			all.Go(func() {
				stream, err := s.kv.RangeStream(t.Context(), bigRange(), unlimited)
				if err != nil {
					t.Error(err)
					return
				}
				r := new(pb.RangeResponse)
				for {
					part, err := stream.Recv()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(i) * parkCheck)
					r.Count, r.Kvs = part.RangeResponse.Count, append(r.Kvs, part.RangeResponse.Kvs...)
				}
				checkBig(t, r)
			})
		}
		all.Wait()
		wantRoom(t, s)
	})
}

// TestMediumAnswers: answers of every size around the places where the way of making them changes equal what is streamed.
func TestMediumAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		size := 0
		for i := 0; size < 400<<10; i++ {
			s.put(fmt.Sprintf("m/%04d", i), string(bytes.Repeat([]byte{byte(i)}, 700+i)))
			size += 700 + i
			if i%9 > 0 && size < 60<<10 {
				continue
			}
			q := &pb.RangeRequest{Key: []byte("m/"), RangeEnd: []byte("m0"), Limit: int64(i), KeysOnly: i%5 == 0}
			one, err := s.kv.Range(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			parts, _, err := s.streamed(q)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(one, parts) {
				t.Fatalf("%d keys, %d bytes: the answer has %d keys, the stream %d", i, size, len(one.Kvs), len(parts.Kvs))
			}
		}
		wantRoom(t, s)
	})
}

// TestAnswersThatRest: an answer that its client does not read gives its room back, and is complete when the client goes on, though
// keys changed meanwhile.
func TestAnswersThatRest(t *testing.T) {
	for _, limit := range []int64{0, 6} { // read in pieces from the beginning; in memory as a whole
		withBig(t, func(t *testing.T, s *service) {
			want, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("big/"), RangeEnd: []byte("big0"), Limit: limit}, unlimited)
			if err != nil {
				t.Fatal(err)
			}
			q := bigRange()
			q.Limit = limit
			finish := unread(t, s, q)
			if s.api.answers.budget.TryAcquire(s.api.answers.max) {
				t.Fatal("an answer that is not read holds nothing")
			}
			time.Sleep((parkAfter + 1) * parkCheck)
			wantRoom(t, s)
			for i := range bigKeys {
				s.put(fmt.Sprintf("big/%02d", i), "another")
			}
			r, err := finish()
			if err != nil {
				t.Fatal(err)
			}
			r.Header, want.Header = nil, nil
			if !proto.Equal(r, want) {
				t.Fatalf("limit %d: another answer than before", limit)
			}
			wantRoom(t, s)
		})
	}
}

// TestAnswersOvertaken: an answer that rested until a compaction took its revision away breaks off with its connection; it is not
// completed with anything else. The same befalls a sorted one, which cannot be read again, after a minute.
func TestAnswersOvertaken(t *testing.T) {
	sorted := &pb.RangeRequest{Key: []byte("big/"), RangeEnd: []byte("big/03"), SortTarget: pb.RangeRequest_MOD, SortOrder: pb.RangeRequest_DESCEND}
	for _, q := range []*pb.RangeRequest{bigRange(), sorted} {
		withBig(t, func(t *testing.T, s *service) {
			finish := unread(t, s, q)
			time.Sleep((fixedAfter + 1) * parkCheck)
			wantRoom(t, s)
			rev := s.put("big/00", "another")
			if _, err := s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: rev, Physical: true}); err != nil {
				t.Fatal(err)
			}
			if r, err := finish(); status.Code(err) != codes.Unavailable {
				t.Fatalf("%d keys, %v", len(r.Kvs), err)
			}
			if _, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("big/00")}, grpc.WaitForReady(true)); err != nil {
				t.Errorf("a range after that: %v", err)
			}
			wantRoom(t, s)
		})
	}
}

// TestAnswersCutOff: what a client no longer wants, or a connection no longer carries, is not held.
func TestAnswersCutOff(t *testing.T) {
	withBig(t, func(t *testing.T, s *service) {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, pb.KV_Range_FullMethodName, unlimited)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(bigRange()); err != nil {
			t.Fatal(err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(parkCheck) // it is made at the pace of writes
		cancel()
		wantRoom(t, s)

		conn, err := grpc.NewClient("passthrough:///door", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.door.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		unread(t, &service{conn: conn}, bigRange())
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep((parkAfter + 1) * parkCheck)
		wantRoom(t, s)
		time.Sleep(fixedAfter * parkCheck)
		synctest.Wait()
		if n := len(s.api.answers.live); n > 0 {
			t.Errorf("%d answers are still looked after", n)
		}
	})
}

// TestStopWithAnswers: a member stops although nobody reads what it answers.
func TestStopWithAnswers(t *testing.T) {
	withBig(t, func(t *testing.T, s *service) {
		unread(t, s, bigRange())
		s.stop()
		wantRoom(t, s)
	})
}

// TestSortedAnswers: what has to be in memory as a whole is made one after the other, and refused where it has no room at all.
func TestSortedAnswers(t *testing.T) {
	withBig(t, func(t *testing.T, s *service) {
		q := &pb.RangeRequest{Key: []byte("big/"), RangeEnd: []byte("big0"), SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND}
		_, err := s.kv.Range(t.Context(), q, unlimited)
		wantRefused(t, err)
		q.RangeEnd = []byte("big/04")
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				r, err := s.kv.Range(t.Context(), q)
				if err != nil || len(r.Kvs) != 4 || !bytes.Equal(key(r.Kvs), []byte("big/03 big/02 big/01 big/00")) {
					t.Errorf("%s, %v", key(r.GetKvs()), err)
				}
			})
		}
		all.Wait()
		wantRoom(t, s)
	})
}

func key(kvs []*mvccpb.KeyValue) []byte {
	var keys [][]byte
	for _, v := range kvs {
		keys = append(keys, v.Key)
	}
	return bytes.Join(keys, []byte(" "))
}

// TestWaitForRoom: where others hold all room a large answer waits, a small one does not, and who has waited for long is refused.
func TestWaitForRoom(t *testing.T) {
	withBig(t, func(t *testing.T, s *service) {
		a := s.api.answers
		if !a.budget.TryAcquire(a.max) {
			t.Fatal("no room")
		}
		began := time.Now()
		if _, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("big/"), RangeEnd: []byte("big0"), KeysOnly: true}); err != nil {
			t.Errorf("a small answer: %v", err)
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("a small answer waited %v", waited)
		}
		_, err := s.kv.Range(t.Context(), bigRange(), unlimited)
		wantRefused(t, err)
		if waited := time.Since(began); waited != roomTimeout {
			t.Errorf("refused after %v", waited)
		}
		time.AfterFunc(time.Second, func() { a.budget.Release(a.max) })
		r, err := s.kv.Range(t.Context(), bigRange(), unlimited)
		if err != nil {
			t.Fatal(err)
		}
		checkBig(t, r)
	})
}

// TestPace: pieces follow each other at a distance while there are writes, and at once when there have been none for a while.
func TestPace(t *testing.T) {
	writes := uint64(0)
	p := pace{writes: func() uint64 { return writes }}
	now := time.Unix(1, 0)
	if d := p.turn(now, sendCost); d != 0 {
		t.Errorf("without writes it waits %v", d)
	}
	writes++
	var last time.Duration
	for i := range 10 {
		d := p.turn(now, sendCost)
		if i > 0 && d <= last {
			t.Errorf("piece %d waits %v, the one before it %v", i, d, last)
		}
		last = d
	}
	if d := p.turn(now.Add(writesWithin+last), sendCost); d != 0 {
		t.Errorf("long after the last write it waits %v", d)
	}
}

// TestLargeTransactions: what transactions read and deletions return is larger than the bound of all, so they come one after the
// other; small ones do not wait for them, and nothing is held afterwards.
func TestLargeTransactions(t *testing.T) {
	withBig(t, func(t *testing.T, s *service) {
		q := &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp(bigRange()), putOp([]byte("other"), []byte("v"), 0)}}
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				r, err := s.kv.Txn(t.Context(), q, unlimited)
				if err != nil {
					t.Error(err)
					return
				}
				checkBig(t, r.Responses[0].GetResponseRange())
			})
		}
		all.Wait()
		wantRoom(t, s)

		<-s.api.answers.whole // as if one were under way
		small := &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: []byte("big/00")})}}
		if _, err := s.kv.Txn(t.Context(), small); err != nil {
			t.Error(err)
		}
		_, err := s.kv.Txn(t.Context(), q, unlimited)
		wantRefused(t, err)
		s.api.answers.whole <- struct{}{}

		d, err := s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("big/"), RangeEnd: []byte("big0"), PrevKv: true}, unlimited)
		if err != nil || d.Deleted != bigKeys || len(d.PrevKvs) != bigKeys {
			t.Errorf("%d deleted, %d returned, %v", d.GetDeleted(), len(d.GetPrevKvs()), err)
		}
		wantRoom(t, s)
	})
}

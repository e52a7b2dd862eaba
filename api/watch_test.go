package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/api/port"
)

// watcher is a client's side of a watch stream.
type watcher struct {
	t      testing.TB
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
	got    chan string
	ended  chan error
}

// openWatch opens a stream. What it receives is written down as text.
func (s *service) openWatch(md ...string) *watcher {
	s.t.Helper()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), md...))
	stream, err := s.watch.Watch(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	w := &watcher{t: s.t, stream: stream, cancel: cancel, got: make(chan string, 1000), ended: make(chan error, 1)}
	s.t.Cleanup(cancel)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				w.ended <- err
				return
			}
			w.got <- showWatch(r)
		}
	}()
	return w
}

func showWatch(r *pb.WatchResponse) string {
	text := fmt.Sprintf("%d rev=%d", r.WatchId, r.Header.Revision)
	for name, set := range map[string]bool{" created": r.Created, " fragment": r.Fragment} {
		if set {
			text += name
		}
	}
	if r.Canceled {
		text += fmt.Sprintf(" canceled compact=%d %q", r.CompactRevision, r.CancelReason)
	}
	for _, e := range r.Events {
		text += fmt.Sprintf(" %s %s=%.10s@%d", e.Type, e.Kv.Key, e.Kv.Value, e.Kv.ModRevision)
		if e.PrevKv != nil {
			text += fmt.Sprintf("(was %s)", e.PrevKv.Value)
		}
	}
	return text
}

func (w *watcher) send(q *pb.WatchRequest) {
	w.t.Helper()
	if err := w.stream.Send(q); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watcher) create(q *pb.WatchCreateRequest) {
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q}})
}

func (w *watcher) stop(id int64) {
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (w *watcher) progress() {
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

// want asks for exactly these responses, now that everything has come to rest.
func (w *watcher) want(texts ...string) {
	w.t.Helper()
	synctest.Wait()
	var got []string
	for len(w.got) > 0 {
		got = append(got, <-w.got)
	}
	if strings.Join(got, "\n") != strings.Join(texts, "\n") {
		w.t.Errorf("received\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(texts, "\n"))
	}
}

// wantEnd asks that the stream has ended with this error.
func (w *watcher) wantEnd(want error) {
	w.t.Helper()
	synctest.Wait()
	select {
	case err := <-w.ended:
		if status.Convert(err).Message() != status.Convert(want).Message() || status.Code(err) != status.Code(want) {
			w.t.Errorf("ended with %v, want %v", err, want)
		}
	default:
		w.t.Errorf("goes on, want %v", want)
	}
}

// TestWatch goes through the life of watches on one stream: ids, creation, events, cancellation, progress.
func TestWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		w := s.openWatch()
		w.create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c"), PrevKv: true})
		w.want("0 rev=1 created")
		s.put("a", "1")
		s.put("c", "1")
		s.put("a", "2")
		w.want("0 rev=2 PUT a=1@2", "0 rev=4 PUT a=2@4(was 1)")
		w.create(&pb.WatchCreateRequest{Key: []byte("c"), StartRevision: 1, WatchId: 7})
		w.want("7 rev=4 created", "7 rev=4 PUT c=1@3")
		w.create(&pb.WatchCreateRequest{Key: []byte("x"), WatchId: 7})
		w.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})
		w.want(`-1 rev=4 created canceled compact=0 "mvcc: duplicate watch ID provided on the WatchStream"`,
			`-1 rev=4 created canceled compact=0 "mvcc: watcher range is empty"`)
		w.progress()
		w.want("-1 rev=4")
		w.stop(99)
		w.want()
		w.stop(0)
		w.want(`0 rev=4 canceled compact=0 ""`)
		s.put("a", "3")
		w.want()
		if _, err := s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z")}); err != nil {
			t.Fatal(err)
		}
		w.want("7 rev=6 DELETE c=@6")
		if _, err := s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: 6}); err != nil {
			t.Fatal(err)
		}
		w.create(&pb.WatchCreateRequest{Key: []byte("c"), StartRevision: 3})
		w.want("1 rev=6 created", `1 rev=0 canceled compact=6 ""`)
		w.cancel()
		w.wantEnd(status.FromContextError(context.Canceled).Err())
	})
}

// TestWatchTogether: what several watchers of a stream are told of the same change is sent together, in the order and the number of one by one, whether
// it fits into one burst, needs several or is too long for any, and among watchers who were canceled or want something else.
func TestWatchTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		const watchers = 12
		w := s.openWatch()
		for range watchers {
			w.create(&pb.WatchCreateRequest{Key: []byte("a")})
		}
		w.create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("b"), PrevKv: true})
		synctest.Wait()
		for len(w.got) > 0 {
			<-w.got
		}
		w.stop(watchers - 1)
		w.stop(3)
		w.want(`11 rev=1 canceled compact=0 ""`, `3 rev=1 canceled compact=0 ""`)
		was := ""
		for i, size := range []int{1, burstBytesMax / 100, burstBytesMax / 5, watchCopyMax, 2 * burstBytesMax} {
			rev, value := i+2, strings.Repeat(strconv.Itoa(i), size)
			s.put("a", value)
			var want []string
			for id := range watchers - 1 {
				if id != 3 {
					want = append(want, fmt.Sprintf("%d rev=%d PUT a=%.10s@%d", id, rev, value, rev))
				}
			}
			other := fmt.Sprintf("%d rev=%d PUT a=%.10s@%d", watchers, rev, value, rev)
			if was != "" {
				other += fmt.Sprintf("(was %s)", was)
			}
			was = value
			w.want(append(want, other)...)
		}
		text := metricsOf(s)
		for _, want := range []string{
			fmt.Sprintf(`grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} %d`, watchers+1+2+5*(watchers-1)),
			fmt.Sprintf(`etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds_count %d`, 5*(watchers-1)),
			fmt.Sprintf(`etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds_count %d`, 5*(watchers-1)),
		} {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("the metrics lack %s", want)
			}
		}
	})
}

// TestWatchOutlivesItsRequests: a client that closes its side goes on receiving events.
func TestWatchOutlivesItsRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		w := s.openWatch()
		w.create(&pb.WatchCreateRequest{Key: []byte("a")})
		if err := w.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		w.want("0 rev=1 created")
		s.put("a", "1")
		w.want("0 rev=2 PUT a=1@2")
	})
}

// TestWatchProgress: a quiet watch that asked for it is told every interval how far it is, one with events is not.
func TestWatchProgress(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		w := s.openWatch()
		w.create(&pb.WatchCreateRequest{Key: []byte("a"), ProgressNotify: true})
		w.create(&pb.WatchCreateRequest{Key: []byte("b")})
		w.want("0 rev=1 created", "1 rev=1 created")
		s.put("other", "1")
		time.Sleep(11*time.Minute + time.Second)
		w.want("0 rev=2")
		s.put("a", "1")
		time.Sleep(9 * time.Minute)
		w.want("0 rev=3 PUT a=1@3")
		time.Sleep(3 * time.Minute)
		w.want()
		time.Sleep(10 * time.Minute)
		w.want("0 rev=3")
	})
}

// TestWatchFragments: a revision that is larger than a response may be comes in fragments to a watch that asked for them,
// and whole to one that did not.
func TestWatchFragments(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		value := strings.Repeat("x", 900<<10)
		for _, key := range []string{"k1", "k2", "k3"} {
			s.put(key, value)
		}
		whole, parts := s.openWatch(), s.openWatch()
		whole.create(&pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), PrevKv: true})
		parts.create(&pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), PrevKv: true, Fragment: true})
		whole.want("0 rev=4 created")
		parts.want("0 rev=4 created")
		if _, err := s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}); err != nil {
			t.Fatal(err)
		}
		was := "(was " + value + ")"
		whole.want("0 rev=5 DELETE k1=@5" + was + " DELETE k2=@5" + was + " DELETE k3=@5" + was)
		parts.want("0 rev=5 fragment DELETE k1=@5"+was, "0 rev=5 fragment DELETE k2=@5"+was, "0 rev=5 DELETE k3=@5"+was)
	})
}

// TestSlowWatch: a client that does not read holds up nobody; when it reads again it misses nothing, and events of one
// revision stay together.
func TestSlowWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		slow, err := s.watch.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := slow.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}); err != nil {
			t.Fatal(err)
		}
		if r, err := slow.Recv(); err != nil || !r.Created { // it watches from here on; what follows it does not read
			t.Fatal(r, err)
		}
		quick := s.openWatch()
		quick.create(&pb.WatchCreateRequest{Key: []byte("k")})
		<-quick.got
		value := strings.Repeat("x", 10<<10)
		const puts = 500 // 5 MB: far more than flow control lets pass
		for i := range puts {
			s.put("k", value)
			if got, want := <-quick.got, fmt.Sprintf("0 rev=%d PUT k=xxxxxxxxxx@%d", i+2, i+2); got != want {
				t.Fatalf("beside a slow watch: %s, want %s", got, want)
			}
		}
		next := int64(2)
		for next < puts+2 {
			r, err := slow.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range r.Events {
				if e.Kv.ModRevision != next {
					t.Fatalf("revision %d, want %d", e.Kv.ModRevision, next)
				}
				next++
			}
			if len(r.Events) > 0 && r.Header.Revision < next-1 {
				t.Fatalf("header %d with events up to %d", r.Header.Revision, next-1)
			}
		}
	})
}

// TestWatchFloods: a client that sends requests and reads no answers is held back by flow control, and does not grow the
// member.
func TestWatchFloods(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		ctx, cancel := context.WithCancel(context.Background())
		flood, err := s.watch.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan int, 1)
		go func() {
			n := 0
			reason := strings.Repeat("k", 100)
			for ; n < 200000; n++ {
				q := &pb.WatchCreateRequest{Key: []byte(reason), RangeEnd: []byte("a")} // refused with a text
				if flood.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q}}) != nil {
					break
				}
			}
			sent <- n
		}()
		time.Sleep(time.Minute)
		s.put("k", "v")
		cancel()
		if n := <-sent; n > 20000 {
			t.Errorf("%d requests were taken of a client that reads nothing", n)
		}
	})
}

// TestStreamsThatNeedALeader end when there has been none for three election timeouts, and are refused then; others go on.
func TestStreamsThatNeedALeader(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		needs, other := s.openWatch(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader), s.openWatch()
		alive, err := s.lease.LeaseKeepAlive(metadata.AppendToOutgoingContext(t.Context(), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader))
		if err != nil {
			t.Fatal(err)
		}
		needs.create(&pb.WatchCreateRequest{Key: []byte("k")})
		other.create(&pb.WatchCreateRequest{Key: []byte("k")})
		needs.want("0 rev=1 created")
		other.want("0 rev=1 created")
		s.fake.leaderless.Store(true)
		time.Sleep(2 * time.Second)
		s.put("k", "1")
		needs.want("0 rev=2 PUT k=1@2")
		time.Sleep(2 * time.Second)
		needs.wantEnd(rpctypes.ErrGRPCNoLeader)
		if _, err := alive.Recv(); status.Convert(err).Message() != "etcdserver: no leader" {
			t.Errorf("a keep-alive stream ended with %v", err)
		}
		s.put("k", "2")
		other.want("0 rev=2 PUT k=1@2", "0 rev=3 PUT k=2@3")
		late := s.openWatch(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
		late.wantEnd(rpctypes.ErrGRPCNoLeader)
		_, err = s.kv.Range(metadata.AppendToOutgoingContext(t.Context(), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader), &pb.RangeRequest{Key: []byte("k")})
		if status.Convert(err).Message() != "etcdserver: no leader" {
			t.Errorf("a call that needs a leader: %v", err)
		}
		s.fake.leaderless.Store(false)
		again := s.openWatch(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
		again.create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 3})
		again.want("0 rev=3 created", "0 rev=3 PUT k=2@3")
		time.Sleep(time.Minute)
		again.want()
	})
}

// TestKeepAlive: a stream of renewals answers in order, with TTL 0 for a lease that is not there, and ends with its
// requests.
func TestKeepAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		if _, err := s.lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 7, TTL: 60}); err != nil {
			t.Fatal(err)
		}
		stream, err := s.lease.LeaseKeepAlive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ id, ttl int64 }{{7, 60}, {8, 0}, {7, 60}, {0, 0}} {
			if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: c.id}); err != nil {
				t.Fatal(err)
			}
			r, err := stream.Recv()
			if err != nil || r.ID != c.id || r.TTL != c.ttl || r.Header.Revision != 1 || r.Header.MemberId == 0 {
				t.Errorf("renewing %d: %v, %v", c.id, r, err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last request: %v", err)
		}
		ttl, err := s.lease.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 8})
		if err != nil || ttl.TTL != -1 || ttl.GrantedTTL != 0 {
			t.Errorf("the life of no lease: %v, %v", ttl, err)
		}
		list, err := s.lease.LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{})
		if err != nil || len(list.Leases) != 1 || list.Leases[0].ID != 7 {
			t.Errorf("leases %v, %v", list, err)
		}
		if _, err := s.lease.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 8}); status.Convert(err).Message() != "etcdserver: requested lease not found" {
			t.Errorf("revoking no lease: %v", err)
		}
	})
}

// TestStopEndsStreams: the member stops while clients watch, renew and wait: they are told so, soon, and nothing is left.
func TestStopEndsStreams(t *testing.T) {
	var w *watcher
	var alive grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
	inBubble(t, func(t *testing.T, s *service) {
		w = s.openWatch()
		w.create(&pb.WatchCreateRequest{Key: []byte("k")})
		w.want("0 rev=1 created")
		var err error
		if alive, err = s.lease.LeaseKeepAlive(context.Background()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s.stop()
		w.wantEnd(rpctypes.ErrGRPCStopped)
		if _, err := alive.Recv(); status.Convert(err).Message() != "etcdserver: server stopped" {
			t.Errorf("a keep-alive stream ended with %v", err)
		}
		if took := time.Since(began); took > 2*port.StopTimeout {
			t.Errorf("stopping took %v", took)
		}
	})
}

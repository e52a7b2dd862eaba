package proxy

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/api/port"
	"holdfast/test/run"
	"holdfast/tlsconf"
)

// What each saving is worth is counted where it counts: at the server, by its own counters of messages received.

// front is a proxy before a server.
type front struct {
	t       testing.TB
	server  *run.Server
	proxy   *Proxy
	address string
}

// newFront starts a server and a proxy before it, until the test ends.
func newFront(t testing.TB, change func(*Config)) *front {
	t.Helper()
	server, err := run.Start(t.Context(), run.Config{Binary: run.Holdfast(t), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return before(t, server, change)
}

// before starts a proxy before a server, until the test ends.
func before(t testing.TB, server *run.Server, change func(*Config)) *front {
	t.Helper()
	cfg := Config{Endpoints: []string{server.Client}, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	p, address := serve(t, cfg, nil)
	return &front{t: t, server: server, proxy: p, address: address}
}

// serve runs a proxy until the test ends, and returns its address. shown is what it shows to clients; nil is plaintext.
func serve(t testing.TB, cfg Config, shown *tlsconf.Side) (*Proxy, string) {
	t.Helper()
	p, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, Listeners{Clients: []port.Door{{Listener: l, TLS: shown}}}) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the proxy does not end")
		}
	})
	return p, l.Addr().String()
}

// dial connects a client to the proxy.
func (f *front) dial() *grpc.ClientConn { return dial(f.t, f.address) }

func dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// received is how many messages the server has received for a method.
func (f *front) received(method string) int {
	f.t.Helper()
	r, err := http.Get("http://" + f.server.Client + "/metrics")
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "grpc_server_msg_received_total{") && strings.Contains(line, `grpc_method="`+method+`"`) {
			n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				f.t.Fatal(err)
			}
			return int(n)
		}
	}
	return 0
}

// counting gives what a piece of work makes the server receive for a method.
func (f *front) counting(method string, work func()) int {
	f.t.Helper()
	before := f.received(method)
	work()
	return f.received(method) - before
}

func (f *front) wantCount(what string, got, least, most int) {
	f.t.Helper()
	if got < least || got > most {
		f.t.Errorf("%s: %d requests at the server, want %d to %d", what, got, least, most)
	}
}

func get(t testing.TB, c *grpc.ClientConn, q *pb.RangeRequest) *pb.RangeResponse {
	t.Helper()
	r, err := pb.NewKVClient(c).Range(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func put(t testing.TB, c *grpc.ClientConn, key, value string) int64 {
	t.Helper()
	r, err := pb.NewKVClient(c).Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// TestCacheSaves: ranges that may be old are asked once, until a write of their keys passes through.
func TestCacheSaves(t *testing.T) {
	f := newFront(t, nil)
	c := f.dial()
	put(t, c, "a", "1")
	old := &pb.RangeRequest{Key: []byte("a"), Serializable: true}
	all := &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z"), Serializable: true}
	many := func() {
		for range 100 {
			get(t, c, old)
			get(t, c, all)
		}
	}
	f.wantCount("200 ranges that may be old", f.counting("Range", many), 2, 2)
	f.wantCount("again", f.counting("Range", many), 0, 0)
	put(t, c, "b", "1")
	f.wantCount("after a write in the range", f.counting("Range", many), 1, 1)
	put(t, c, "a", "2")
	f.wantCount("after a write of the key", f.counting("Range", many), 2, 2)
	if got := get(t, c, old); string(got.Kvs[0].Value) != "2" {
		t.Errorf("the cache has %q after a write of 2", got.Kvs[0].Value)
	}
	f.wantCount("ranges that must be of now", f.counting("Range", func() {
		for range 10 {
			get(t, c, &pb.RangeRequest{Key: []byte("a")})
		}
	}), 10, 10)
	if _, err := pb.NewKVClient(c).Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("c")},
	}}}}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, old); got.Count != 0 {
		t.Errorf("the cache has %v after its deletion", got.Kvs)
	}
}

// openWatch creates a watch and returns its stream, once it is created.
func openWatch(t testing.TB, c *grpc.ClientConn, q *pb.WatchCreateRequest) pb.Watch_WatchClient {
	t.Helper()
	s, err := pb.NewWatchClient(c).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q}}); err != nil {
		t.Fatal(err)
	}
	if r := recv(t, s); !r.Created || r.Canceled {
		t.Fatalf("a watch is answered with %v", r)
	}
	return s
}

func recv(t testing.TB, s pb.Watch_WatchClient) *pb.WatchResponse {
	t.Helper()
	r, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWatchesShare: clients that watch the same keys from about the same place cost the server one watch, and each gets every
// event from its own start on, once.
func TestWatchesShare(t *testing.T) {
	f := newFront(t, nil)
	c := f.dial()
	const clients = 50
	rev := put(t, c, "w/0", "0")
	var streams []pb.Watch_WatchClient
	creates := f.counting("Watch", func() {
		for i := range clients {
			q := &pb.WatchCreateRequest{Key: []byte("w/"), RangeEnd: []byte("w0")}
			if i%2 == 1 {
				q.StartRevision = rev + 1
			}
			streams = append(streams, openWatch(t, f.dial(), q))
		}
		for i := range 10 {
			put(t, c, fmt.Sprintf("w/%d", i), "x")
		}
		for i, s := range streams {
			next := rev + 1
			for next <= rev+10 {
				for _, e := range recv(t, s).Events {
					if e.Kv.ModRevision != next {
						t.Fatalf("watch %d: event of revision %d, want %d", i, e.Kv.ModRevision, next)
					}
					next++
				}
			}
		}
	})
	f.wantCount(fmt.Sprintf("%d watches", clients), creates, 1, 3)
	late := openWatch(t, f.dial(), &pb.WatchCreateRequest{Key: []byte("w/"), RangeEnd: []byte("w0"), StartRevision: rev, PrevKv: false})
	if r := recv(t, late); r.Events[0].Kv.ModRevision != rev {
		t.Errorf("a watch of the past begins at %d, want %d", r.Events[0].Kv.ModRevision, rev)
	}
}

// TestLeasesShare: the leases of all clients are renewed over one stream.
func TestLeasesShare(t *testing.T) {
	f := newFront(t, nil)
	c := f.dial()
	const clients = 30
	started := func() (n int) { return f.proxy.renewals.streams() }
	var all sync.WaitGroup
	var mu sync.Mutex
	most := 0
	renewed := f.counting("LeaseKeepAlive", func() {
		var open []pb.Lease_LeaseKeepAliveClient
		for i := range int64(clients) {
			if _, err := pb.NewLeaseClient(c).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: i + 1, TTL: 600}); err != nil {
				t.Fatal(err)
			}
			s, err := pb.NewLeaseClient(f.dial()).LeaseKeepAlive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, s)
			all.Go(func() {
				for range 3 {
					if err := s.Send(&pb.LeaseKeepAliveRequest{ID: i + 1}); err != nil {
						t.Error(err)
						return
					}
					r, err := s.Recv()
					if err != nil || r.ID != i+1 || r.TTL != 600 {
						t.Errorf("renewal of %d: %v, %v", i+1, r, err)
						return
					}
				}
				mu.Lock()
				defer mu.Unlock()
				most = max(most, started())
			})
		}
		all.Wait()
		for _, s := range open {
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
		}
	})
	if most != 1 {
		t.Errorf("%d streams to the server for %d clients, want 1", most, clients)
	}
	f.wantCount("renewals", renewed, 3*clients, 3*clients)
}

// TestLeasingSaves: with leases on keys, reads of now are answered without the server.
func TestLeasingSaves(t *testing.T) {
	f := newFront(t, func(c *Config) { c.LeasingPrefix = "leasing/" })
	c := f.dial()
	put(t, c, "k", "1")
	get(t, c, &pb.RangeRequest{Key: []byte("k")})
	f.wantCount("reads of a key with a lease", f.counting("Range", func() {
		for range 100 {
			if got := get(t, c, &pb.RangeRequest{Key: []byte("k")}); string(got.Kvs[0].Value) != "1" {
				t.Fatalf("read %q", got.Kvs[0].Value)
			}
		}
	}), 0, 1)
	other := before(t, f.server, func(c *Config) { c.LeasingPrefix = "leasing/" })
	put(t, other.dial(), "k", "2")
	if got := get(t, c, &pb.RangeRequest{Key: []byte("k")}); string(got.Kvs[0].Value) != "2" {
		t.Errorf("after a write through another proxy: %q", got.Kvs[0].Value)
	}
}

package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestNamespace: keys have the namespace before them at the cluster and not here, in answers, transactions, watches and leases.
func TestNamespace(t *testing.T) {
	f := newFront(t, func(c *Config) { c.Namespace = "ns/" })
	in, out := f.dial(), dial(t, f.server.Client)
	w := openWatch(t, in, &pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), PrevKv: true})
	if _, err := pb.NewLeaseClient(in).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 7, TTL: 600}); err != nil {
		t.Fatal(err)
	}
	put(t, out, "k", "outside")
	for _, key := range []string{"k", "k"} {
		if _, err := pb.NewKVClient(in).Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte("inside"), Lease: 7}); err != nil {
			t.Fatal(err)
		}
	}
	if got := get(t, out, &pb.RangeRequest{Key: []byte("ns/"), RangeEnd: []byte("ns0"), KeysOnly: true}); len(got.Kvs) != 1 || string(got.Kvs[0].Key) != "ns/k" {
		t.Errorf("at the cluster: %v", got.Kvs)
	}
	if got := get(t, in, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}); len(got.Kvs) != 1 || string(got.Kvs[0].Key) != "k" {
		t.Errorf("all there is: %v", got.Kvs)
	}
	for range 2 {
		for _, e := range recv(t, w).Events {
			if string(e.Kv.Key) != "k" || string(e.Kv.Value) != "inside" {
				t.Errorf("watched %v", e)
			}
		}
	}
	ttl, err := pb.NewLeaseClient(in).LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 7, Keys: true})
	if err != nil || len(ttl.Keys) != 1 || string(ttl.Keys[0]) != "k" {
		t.Errorf("keys of the lease: %v, %v", ttl, err)
	}
	stream, err := pb.NewKVClient(in).RangeStream(t.Context(), &pb.RangeRequest{Key: []byte("k")})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a stream past the namespace: %v", err)
	}
}

// TestForwarded: what the proxy knows nothing of goes through, errors with their codes; what is no part of the API does not.
func TestForwarded(t *testing.T) {
	f := newFront(t, nil)
	c := f.dial()
	put(t, c, "k", "v")
	stream, err := pb.NewKVClient(c).RangeStream(t.Context(), &pb.RangeRequest{Key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err != nil || len(r.RangeResponse.Kvs) != 1 {
		t.Errorf("a range as a stream: %v, %v", r, err)
	}
	for what, call := range map[string]func() error{
		"etcdserver: member not found": func() error {
			_, err := pb.NewClusterClient(c).MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: 1})
			return err
		},
		"etcdserver: key is not provided": func() error {
			_, err := pb.NewKVClient(c).Put(t.Context(), &pb.PutRequest{})
			return err
		},
		"etcdserver: key not found": func() error {
			_, err := pb.NewKVClient(c).Txn(t.Context(), &pb.TxnRequest{Success: []*pb.RequestOp{{}}})
			return err
		},
		"etcdserver: mvcc: required revision is a future revision": func() error {
			_, err := pb.NewKVClient(c).Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), Revision: 1 << 40})
			return err
		},
		"etcdserver: requested lease not found": func() error {
			_, err := pb.NewLeaseClient(c).LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 4711})
			return err
		},
		"/grpc.health.v1.Health/Check is not supported by the gRPC proxy": func() error {
			return c.Invoke(t.Context(), "/grpc.health.v1.Health/Check", &pb.StatusRequest{}, &pb.StatusResponse{})
		},
	} {
		if err := call(); status.Convert(err).Message() != what || status.Code(err) == codes.Unknown {
			t.Errorf("%v, want %q with a code", err, what)
		}
	}
}

// TestSlowWatcher: a client that does not read its watches holds up nobody, its queue has a bound, and it misses nothing when
// it reads at last.
func TestSlowWatcher(t *testing.T) {
	f := newFront(t, nil)
	writer := f.dial()
	slow := openWatch(t, f.dial(), &pb.WatchCreateRequest{Key: []byte("s")})
	quick := openWatch(t, f.dial(), &pb.WatchCreateRequest{Key: []byte("s")})
	value := strings.Repeat("x", 100_000)
	const writes = 200 // more than the queue and the flow control of a connection hold
	var first int64
	for i := range writes {
		rev := put(t, writer, "s", value)
		if i == 0 {
			first = rev
		}
		for next := rev; next <= rev; {
			for _, e := range recv(t, quick).Events {
				next = e.Kv.ModRevision + 1
			}
		}
	}
	f.proxy.hub.mu.Lock()
	parked := 0
	for g := range f.proxy.hub.groups {
		for feed := range f.proxy.hub.groups[g] {
			parked += len(feed.watchers)
		}
	}
	f.proxy.hub.mu.Unlock()
	if parked != 1 {
		t.Errorf("%d watchers have a feed, want that of the quick client alone", parked)
	}
	for next := first; next < first+writes; {
		for _, e := range recv(t, slow).Events {
			if e.Kv.ModRevision != next {
				t.Fatalf("the slow client got revision %d, want %d", e.Kv.ModRevision, next)
			}
			next++
		}
	}
}

// TestWatchAnswers: ids, refusals, cancellation and progress are a member's.
func TestWatchAnswers(t *testing.T) {
	f := newFront(t, nil)
	c := f.dial()
	rev := put(t, c, "k", "1")
	for range 5 {
		put(t, c, "k", "2")
	}
	if _, err := pb.NewKVClient(c).Compact(t.Context(), &pb.CompactionRequest{Revision: rev + 3}); err != nil {
		t.Fatal(err)
	}
	script := func(address string) (log []string) {
		s, err := pb.NewWatchClient(dial(t, address)).Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		send := func(q *pb.WatchRequest) {
			if err := s.Send(q); err != nil {
				t.Fatal(err)
			}
		}
		create := func(q *pb.WatchCreateRequest) {
			send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q}})
		}
		hear := func(n int) {
			for range n {
				r := recv(t, s)
				text := fmt.Sprintf("id %d created %v canceled %v compacted %d reason %q", r.WatchId, r.Created, r.Canceled, r.CompactRevision, r.CancelReason)
				for _, e := range r.Events {
					text += fmt.Sprintf(" %s %s@%d", e.Type, e.Kv.Key, e.Kv.ModRevision)
				}
				log = append(log, text)
			}
		}
		create(&pb.WatchCreateRequest{Key: []byte("k"), WatchId: 5})
		hear(1)
		create(&pb.WatchCreateRequest{Key: []byte("k"), WatchId: 5})
		hear(1)
		create(&pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("a")})
		hear(1)
		create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: -1})
		hear(1)
		create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: rev})
		hear(2)
		create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: rev + 4, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}})
		hear(2)
		send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 5}}})
		hear(1)
		send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		hear(1)
		return log
	}
	if want, got := script(f.server.Client), script(f.address); !slices.Equal(want, got) {
		t.Errorf("the server:\n%s\nthrough the proxy:\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

// TestTokens: a client's token goes with each of its requests, is never answered from the cache, and two users of one proxy keep
// their rights.
func TestTokens(t *testing.T) {
	f := newFront(t, nil)
	c := f.dial()
	auth := pb.NewAuthClient(c)
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, "k", "secret")
	open := &pb.RangeRequest{Key: []byte("k"), Serializable: true}
	get(t, c, open)
	for _, user := range []string{"root", "reader", "other"} {
		must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: user, Password: "pw"}))
	}
	must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}))
	must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "r"}))
	must(auth.RoleGrantPermission(ctx, permit("r", "k")))
	must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "reader", Role: "r"}))
	must(auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
	as := func(user string) context.Context {
		t.Helper()
		r, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: "pw"})
		if err != nil {
			t.Fatal(err)
		}
		return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, r.Token)
	}
	reader, other := as("reader"), as("other")
	kvs := pb.NewKVClient(c)
	for range 2 {
		r, err := kvs.Range(reader, open)
		if err != nil || string(r.Kvs[0].Value) != "secret" {
			t.Errorf("who may read: %v, %v", r, err)
		}
		if _, err := kvs.Range(other, open); status.Code(err) != codes.PermissionDenied {
			t.Errorf("who may not read: %v", err)
		}
	}
	watch := func(who context.Context) *pb.WatchResponse {
		s, err := pb.NewWatchClient(c).Watch(who)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}); err != nil {
			t.Fatal(err)
		}
		return recv(t, s)
	}
	if r := watch(reader); !r.Created || r.Canceled {
		t.Errorf("who may watch: %v", r)
	}
	if r := watch(other); !r.Canceled || !strings.Contains(r.CancelReason, "permission denied") {
		t.Errorf("who may not watch: %v", r)
	}
	for _, path := range []string{"/health", "/proxy/health"} {
		if got := f.ask(path); !strings.Contains(got, `200 {"health":"true"`) {
			t.Errorf("%s with users: %s", path, got)
		}
	}
	must(auth.AuthDisable(as("root"), &pb.AuthDisableRequest{}))
}

// ask is status and body of an HTTP answer of the proxy.
func (f *front) ask(path string) string {
	f.t.Helper()
	r, err := http.Get("http://" + f.address + path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", r.StatusCode, body)
}

func permit(role, key string) *pb.AuthRoleGrantPermissionRequest {
	return &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: &authpb.Permission{PermType: authpb.READ, Key: []byte(key)}}
}

// TestRegistration: proxies find each other at the cluster, clients are told of all, and one that ends takes itself off the list.
func TestRegistration(t *testing.T) {
	register := func(url string) func(*Config) {
		return func(c *Config) { c.Advertise, c.ResolverPrefix, c.ResolverTTL = url, "proxies", 60 }
	}
	f := newFront(t, register("http://a:1"))
	members := func() (urls []string) {
		r, err := pb.NewClusterClient(f.dial()).MemberList(t.Context(), &pb.MemberListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range r.Members {
			urls = append(urls, m.ClientURLs...)
		}
		slices.Sort(urls)
		return urls
	}
	await := func(want ...string) {
		t.Helper()
		for range 1000 {
			if slices.Equal(members(), want) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("members are %v, want %v", members(), want)
	}
	await("http://a:1")
	t.Run("two", func(t *testing.T) {
		before(t, f.server, register("http://b:2"))
		await("http://a:1", "http://b:2")
	})
	await("http://a:1")
}

// TestHTTP: health and metrics, of the cluster and of the proxy.
func TestHTTP(t *testing.T) {
	f := newFront(t, nil)
	put(t, f.dial(), "k", "v")
	for path, want := range map[string]string{
		"/health":        `200 {"health":"true","reason":""}`,
		"/proxy/health":  `200 {"health":"true","reason":""}`,
		"/metrics":       "etcd_server_has_leader 1",
		"/proxy/metrics": "etcd_grpc_proxy_cache_keys_total",
		"/nothing":       "404",
	} {
		if got := f.ask(path); !strings.Contains(got, want) {
			t.Errorf("%s: %.300s, want %s", path, got, want)
		}
	}
	if got := f.ask("/proxy/metrics"); !strings.Contains(got, `grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`) {
		t.Errorf("calls are not counted:\n%s", got)
	}
	f.server.Kill()
	if got := f.ask("/health"); !strings.Contains(got, `503 {"health":"false","reason":"GET ERROR:`) {
		t.Errorf("without the cluster: %s", got)
	}
	if err := f.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestRestart: a watch goes on when the cluster was away, and misses nothing.
func TestRestart(t *testing.T) {
	f := newFront(t, nil)
	c := f.dial()
	w := openWatch(t, c, &pb.WatchCreateRequest{Key: []byte("k")})
	first := put(t, c, "k", "1")
	f.server.Kill()
	if err := f.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, dial(t, f.server.Client), "k", "2")
	for next := first; next < first+2; {
		for _, e := range recv(t, w).Events {
			if e.Kv.ModRevision != next {
				t.Fatalf("revision %d, want %d", e.Kv.ModRevision, next)
			}
			next++
		}
	}
}

package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"holdfast/api/port"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/login"
	"holdfast/membership"
	"holdfast/metrics"
	"holdfast/mvcc"
	"holdfast/server"
	"holdfast/token"
)

// service is an API over a real member with its data in memory, served within the process.
type service struct {
	t      testing.TB
	api    *API
	member *server.Server
	fake   *fakeMember
	conn   *grpc.ClientConn
	door   *bufconn.Listener // speaks gRPC and HTTP
	stop   func()            // as at the end of the test; the connection stays

	kv          pb.KVClient
	lease       pb.LeaseClient
	watch       pb.WatchClient
	maintenance pb.MaintenanceClient
	cluster     pb.ClusterClient
}

// fakeMember is a member whose leader and failures the tests choose.
type fakeMember struct {
	*server.Server
	leaderless atomic.Bool
	learner    atomic.Bool
	young      atomic.Bool                   // knows of no members yet
	rangeErr   error                         // of every range, if set
	hold       atomic.Pointer[chan struct{}] // ranges wait for its end, if set
	holdLogins atomic.Pointer[chan struct{}] // logins do, where they ask the others
}

// RangeWithin implements Member.
func (m *fakeMember) RangeWithin(ctx context.Context, q *kv.RangeRequest, room mvcc.Room) (*kv.RangeResult, *mvcc.Rest, error) {
	if hold := m.hold.Load(); hold != nil {
		<-*hold
	}
	if m.rangeErr != nil {
		return nil, nil, m.rangeErr
	}
	return m.Server.RangeWithin(ctx, q, room)
}

// AuthState implements Member.
func (m *fakeMember) AuthState(ctx context.Context) (*auth.State, error) {
	if hold := m.holdLogins.Load(); hold != nil {
		<-*hold
	}
	return m.Server.AuthState(ctx)
}

// Leader implements Member.
func (m *fakeMember) Leader() kv.MemberID {
	if m.leaderless.Load() {
		return 0
	}
	return m.Server.Leader()
}

// Members implements Member.
func (m *fakeMember) Members(ctx context.Context, linearizable bool) ([]membership.Member, error) {
	if m.young.Load() {
		return nil, nil
	}
	return m.Server.Members(ctx, linearizable)
}

// IsLearner implements Member.
func (m *fakeMember) IsLearner() bool { return m.learner.Load() || m.Server.IsLearner() }

func testServerConfig() server.Config {
	urls := []string{"http://localhost:2380"}
	return server.Config{
		FS: vfs.NewMem(), DataDir: "data", Name: "default", ClientURLs: []string{"http://localhost:2379"},
		Founders:  []membership.Member{{ID: membership.MemberID(urls, "etcd-cluster", 0), Name: "default", PeerURLs: urls}},
		Heartbeat: 100 * time.Millisecond, ElectionTicks: 10, PreVote: true,
		SnapshotEvery: 10000, CatchUpEntries: 5000, SegmentBytes: 1 << 20, RequestBytesMax: 1 << 20, LearnersMax: 1, StrictReconfigCheck: true,
		Log: slog.New(slog.DiscardHandler),
	}
}

func testConfig() Config {
	return Config{
		RequestBytesMax: 1 << 20, TxnOpsMax: 128, KeepAliveMin: 5 * time.Second, ElectionTimeout: time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

func testLogins(t testing.TB) *login.Keeper {
	t.Helper()
	k, err := login.New(login.Config{
		Tokens: token.Options{Kind: token.KindSimple}, CertificateNames: true, BcryptCost: bcryptCostMin, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// bcryptCostMin is the lowest cost that bcrypt knows.
const bcryptCostMin = 4

// inBubble runs a test with a service in a bubble of testing/synctest: time passes only when everybody waits, and a
// goroutine that is left behind fails the test.
func inBubble(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, serve(t, testServerConfig(), testConfig())) })
}

// serve runs a member and its services until the test ends.
func serve(t testing.TB, memberConfig server.Config, cfg Config) *service {
	t.Helper()
	return serveAt(t, memberConfig, cfg, Listeners{})
}

// serveAt is serve with further listeners.
func serveAt(t testing.TB, memberConfig server.Config, cfg Config, at Listeners) *service {
	t.Helper()
	if memberConfig.Metrics == nil {
		memberConfig.Metrics = metrics.New(metrics.Config{})
	}
	cfg.Metrics = memberConfig.Metrics
	if cfg.Logins == nil {
		cfg.Logins = testLogins(t)
	}
	memberConfig.Tokens = cfg.Logins
	member, err := server.Open(memberConfig)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, member: member, fake: &fakeMember{Server: member}}
	s.api = New(s.fake, cfg)
	memory := bufconn.Listen(64 << 10)
	s.door = bufconn.Listen(64 << 10)
	ctx, cancel := context.WithCancel(context.Background())
	living, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- member.Run(living) }()
	go func() {
		defer stop()
		at.Memory, at.Clients = append(at.Memory, memory), append(at.Clients, port.Door{Listener: exact{s.door}})
		ended <- s.api.Run(ctx, at)
	}()
	s.conn, err = grpc.NewClient("passthrough:///member", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return memory.DialContext(ctx) }),
		grpc.WithIdleTimeout(0))
	if err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended, member.Close()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(func() {
		s.stop()
		if err := s.conn.Close(); err != nil {
			t.Error(err)
		}
	})
	<-member.Ready()
	s.kv, s.lease, s.watch = pb.NewKVClient(s.conn), pb.NewLeaseClient(s.conn), pb.NewWatchClient(s.conn)
	s.maintenance, s.cluster = pb.NewMaintenanceClient(s.conn), pb.NewClusterClient(s.conn)
	return s
}

// exact is a listener of bufconn whose deadlines end when they are set anew. bufconn forgets to stop what a deadline in the past has begun,
// with which net/http ends its reading between two requests, and then fails the next read.
type exact struct{ *bufconn.Listener }

func (l exact) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &exactConn{Conn: c}, nil
}

type exactConn struct {
	net.Conn
	past atomic.Bool
}

func (c *exactConn) SetReadDeadline(t time.Time) error {
	if c.past.Swap(!t.IsZero() && !t.After(time.Now())) {
		time.Sleep(time.Nanosecond) // in a bubble: until what was begun is over
	}
	return c.Conn.SetReadDeadline(t)
}

func (s *service) put(key, value string) int64 {
	s.t.Helper()
	r, err := s.kv.Put(s.t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Header.Revision
}

// TestHTTPOfItsOwn: with a port for HTTP alone the others speak gRPC alone.
func TestHTTPOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := bufconn.Listen(64 << 10)
		s := serveAt(t, testServerConfig(), testConfig(), Listeners{HTTP: []port.Door{{Listener: own}}})
		for _, c := range []struct {
			door   *bufconn.Listener
			answer bool
		}{{own, true}, {s.door, false}} {
			transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.door.DialContext(ctx) }}
			r, err := (&http.Client{Transport: transport}).Get("http://member/version")
			if err == nil {
				r.Body.Close()
			}
			if (err == nil) != c.answer {
				t.Errorf("answer %v, %v; want one: %v", r, err, c.answer)
			}
			transport.CloseIdleConnections()
		}
	})
}

package api

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"holdfast/api/calls"
	"holdfast/api/lockpb"
)

const (
	fewCalls    = 8
	rangeMethod = "/etcdserverpb.KV/Range"
)

// crowded runs a test with a service that has fewCalls ranges under way, which end when free is called.
func crowded(t *testing.T, test func(t *testing.T, s *service, free func())) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.CallsMax = fewCalls
		s := serve(t, testServerConfig(), cfg)
		hold := make(chan struct{})
		s.fake.hold.Store(&hold)
		var held sync.WaitGroup
		for range fewCalls {
			held.Go(func() {
				if _, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")}); err != nil {
					t.Errorf("a call that was admitted: %v", err)
				}
			})
		}
		synctest.Wait()
		test(t, s, func() {
			s.fake.hold.Store(nil)
			close(hold)
			held.Wait()
		})
	})
}

func wantRefused(t *testing.T, err error) {
	t.Helper()
	if s := status.Convert(err); s.Code() != codes.Unknown || s.Message() != "etcdserver: too many requests" {
		t.Fatalf("a call too many is answered with %v", err)
	}
}

// Goal: a member with too much to do says so in etcd's words, at no cost to itself, and does all else: writes, watches,
// keepalives, status. Method: the reads under way are as many as may be; 2,000 more come. Goroutines are counted in the middle.
func TestOverloadIsRefused(t *testing.T) {
	crowded(t, func(t *testing.T, s *service, free func()) {
		before := runtime.NumGoroutine()
		for range 2000 {
			_, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")})
			wantRefused(t, err)
		}
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines before the flood, %d after it", before, after)
		}
		w := s.openWatch()
		w.create(&pb.WatchCreateRequest{Key: []byte("k")})
		w.want("0 rev=1 created")
		s.put("k", "v")
		w.want("0 rev=2 PUT k=v@2")
		granted, err := s.lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 60})
		if err != nil {
			t.Fatal(err)
		}
		alive, err := s.lease.LeaseKeepAlive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: granted.ID}); err != nil {
			t.Fatal(err)
		}
		if r, err := alive.Recv(); err != nil || r.TTL != 60 {
			t.Fatalf("keepalive: %v, %v", r, err)
		}
		if err := alive.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.maintenance.Status(t.Context(), &pb.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		free()
		if _, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")}); err != nil {
			t.Fatalf("when the load is over: %v", err)
		}
	})
}

// Goal: a flood of logins is refused by itself; writes and reads go on. Method: as many logins as may be wait for a member that
// gives no answer.
func TestLoginsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.CallsMax = fewCalls
		s := serve(t, testServerConfig(), cfg)
		hold := make(chan struct{})
		s.fake.holdLogins.Store(&hold)
		auth := pb.NewAuthClient(s.conn)
		var held sync.WaitGroup
		for range fewCalls {
			held.Go(func() {
				_, err := auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root", Password: "x"})
				answered(t, "a login that was admitted", err, rpctypes.ErrGRPCAuthNotEnabled)
			})
		}
		synctest.Wait()
		_, err := auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root", Password: "x"})
		wantRefused(t, err)
		s.put("k", "v")
		if _, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")}); err != nil {
			t.Errorf("beside logins: %v", err)
		}
		s.fake.holdLogins.Store(nil)
		close(hold)
		held.Wait()
		_, err = auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root", Password: "x"})
		answered(t, "after the flood", err, rpctypes.ErrGRPCAuthNotEnabled)
	})
}

// Goal: calls that never come to run do not count for ever. Method: the reads under way are streams whose client sends the header
// alone and then goes away.
func TestCallsThatNeverRunAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.CallsMax = fewCalls
		s := serve(t, testServerConfig(), cfg)
		ctx, cancel := context.WithCancel(t.Context())
		for range fewCalls {
			stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, rangeMethod)
			if err != nil {
				t.Fatal(err)
			}
			_ = stream
		}
		synctest.Wait()
		_, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")})
		wantRefused(t, err)
		cancel()
		time.Sleep(calls.SweepPause)
		for range 3 * fewCalls {
			if _, err := s.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k")}); err != nil {
				t.Fatalf("when the clients are gone: %v", err)
			}
		}
		if text := metricsOf(s); !strings.Contains(text, "\nholdfast_calls_under_way{class=\"read\"} 0\n") {
			t.Errorf("calls count when none is under way: %s", text)
		}
	})
}

// Goal: every method has a class on purpose. Method: all methods the server has are in one of the lists.
func TestEveryMethodHasItsClass(t *testing.T) {
	s := serve(t, testServerConfig(), testConfig())
	always := map[string]bool{
		"/etcdserverpb.Watch/Watch": true, "/etcdserverpb.Lease/LeaseKeepAlive": true,
		"/v3lockpb.Lock/Lock": true, "/v3electionpb.Election/Campaign": true, "/v3electionpb.Election/Observe": true,
	}
	data := map[string]bool{kvName: true, "etcdserverpb.Lease": true, "etcdserverpb.Watch": true, lockpb.LockService: true, lockpb.ElectionService: true}
	for service, info := range s.api.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			free := (always[method] || !data[service]) && method != pb.Auth_Authenticate_FullMethodName
			ctx, err := s.api.guard.Admit(t.Context(), &tap.Info{FullMethodName: method})
			if err != nil {
				t.Fatal(err)
			}
			if counted := ctx != t.Context(); counted == free {
				t.Errorf("%s: counted: %v", method, counted)
			}
		}
	}
}

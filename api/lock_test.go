package api

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"holdfast/api/lockpb"
	"holdfast/api/port"
)

// lockText asks for a lock and gives the key or the error.
func (s *service) lockText(ctx context.Context, name string, lease int64) string {
	var r lockpb.LockResponse
	err := s.conn.Invoke(ctx, "/v3lockpb.Lock/Lock", &lockpb.LockRequest{Name: []byte(name), Lease: lease}, &r)
	if err != nil {
		return fmt.Sprintf("%v: %s", status.Code(err), status.Convert(err).Message())
	}
	return string(r.Key)
}

// lockSoon is lockText for a lock that is expected to wait.
func (s *service) lockSoon(ctx context.Context, name string, lease int64) <-chan string {
	got := make(chan string, 1)
	go func() { got <- s.lockText(ctx, name, lease) }()
	synctest.Wait()
	return got
}

func (s *service) grant(id, ttl int64) {
	s.t.Helper()
	if _, err := s.lease.LeaseGrant(s.t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) unlock(key string) {
	s.t.Helper()
	if err := s.conn.Invoke(s.t.Context(), "/v3lockpb.Lock/Unlock", &lockpb.UnlockRequest{Key: []byte(key)}, new(lockpb.UnlockResponse)); err != nil {
		s.t.Fatal(err)
	}
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestLockQueue: locks are given in the order they were asked for, one unlock lets in one.
func TestLockQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		var waiting []<-chan string
		for i := range int64(10) {
			s.grant(i+1, 3600)
			waiting = append(waiting, s.lockSoon(t.Context(), "q", i+1))
		}
		for i := range waiting {
			key := fmt.Sprintf("q/%x", i+1)
			wantText(t, "the next in the queue", <-waiting[i], key)
			for _, later := range waiting[i+1:] {
				if len(later) > 0 {
					t.Fatalf("two hold the lock: %s and %s", key, <-later)
				}
			}
			s.unlock(key)
			synctest.Wait()
		}
	})
}

// TestLockOrphan: the lease that the member grants for a lock without one is kept alive by nobody, and the lock goes with it.
func TestLockOrphan(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		s.lockText(t.Context(), "o", 0)
		s.grant(1, 3600)
		began := time.Now()
		wantText(t, "after the orphan", s.lockText(t.Context(), "o", 1), "o/1")
		if waited := time.Since(began); waited < 59*time.Second || waited > 70*time.Second {
			t.Errorf("the lock of a lease nobody keeps alive was there for %s", waited)
		}
	})
}

// TestLockOvertakenByCompaction: a compaction while the watch of a waiting call is behind is no reason to fail.
func TestLockOvertakenByCompaction(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		s.grant(1, 3600)
		s.grant(2, 3600)
		s.lockText(t.Context(), "c", 1)
		got := s.lockSoon(t.Context(), "c", 2)
		for i := range 100 {
			s.put("other", fmt.Sprint(i))
		}
		rev := s.put("other", "last")
		if _, err := s.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: rev}); err != nil {
			t.Fatal(err)
		}
		s.unlock("c/1")
		wantText(t, "after the compaction", <-got, "c/2")
	})
}

// TestLockEndsWithTheServer: a call that waits does not hold up the end of the member, and is told why it ended.
func TestLockEndsWithTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		s.grant(1, 3600)
		s.grant(2, 3600)
		s.lockText(t.Context(), "s", 1)
		got := s.lockSoon(t.Context(), "s", 2)
		stream, err := s.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/v3electionpb.Election/Observe")
		if err == nil {
			err = stream.SendMsg(&lockpb.LeaderRequest{Name: []byte("e")})
		}
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		s.stop()
		wantText(t, "a waiting lock", <-got, "Unknown: etcdserver: server stopped")
		if err := stream.RecvMsg(new(lockpb.LeaderResponse)); status.Convert(err).Message() != "etcdserver: server stopped" {
			t.Errorf("an observer was told %v", err)
		}
		if took := time.Since(began); took >= port.StopTimeout {
			t.Errorf("the end took %s", took)
		}
	})
}

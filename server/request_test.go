package server

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/kv"
	"holdfast/membership"
)

// callers are one call of each kind that goes through the log or asks for what was committed.
func callers(m *member) map[string]func(context.Context) error {
	key := []byte("k")
	return map[string]func(context.Context) error{
		"put": func(ctx context.Context) error {
			_, err := m.tryPut(ctx, "k", "v", 0)
			return err
		},
		"delete": func(ctx context.Context) error {
			q, d := draft(m.t, kv.KindDeleteRange, &pb.DeleteRangeRequest{Key: key}, kv.DecodeDeleteRange)
			_, err := m.DeleteRange(ctx, q, d)
			return err
		},
		"txn": func(ctx context.Context) error {
			q, d := draft(m.t, kv.KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{opPut("k", "v")}}, kv.DecodeTxn)
			_, err := m.Txn(ctx, q, d)
			return err
		},
		"compact": func(ctx context.Context) error {
			_, err := m.Compact(ctx, kv.CompactRequest{Revision: 2, Physical: true})
			return err
		},
		"grant": func(ctx context.Context) error {
			_, err := m.LeaseGrant(ctx, kv.LeaseGrantRequest{TTL: 10})
			return err
		},
		"revoke": func(ctx context.Context) error { return m.LeaseRevoke(ctx, 5) },
		"alarm": func(ctx context.Context) error {
			_, err := m.Alarm(ctx, AlarmGet, membership.Alarm{})
			return err
		},
	}
}

// readers are the calls that only ask for what was committed.
func readers(m *member) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"range": func(ctx context.Context) error {
			_, err := m.Range(ctx, &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}})
			return err
		},
		"read-only txn": func(ctx context.Context) error {
			q := &kv.TxnRequest{Success: []kv.Op{{Range: &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}}}}}
			_, err := m.Txn(ctx, q, kv.Draft{})
			return err
		},
		"members": func(ctx context.Context) error {
			_, err := m.Members(ctx, true)
			return err
		},
		"renew": func(ctx context.Context) error {
			_, err := m.LeaseRenew(ctx, 5)
			return err
		},
		"time to live": func(ctx context.Context) error {
			_, err := m.LeaseTimeToLive(ctx, 5, true)
			return err
		},
	}
}

// each runs all calls at once and returns their errors by name.
func together(ctx context.Context, calls map[string]func(context.Context) error) map[string]chan error {
	done := map[string]chan error{}
	for name, call := range calls {
		c := make(chan error, 1)
		done[name] = c
		go func() { c <- call(ctx) }()
	}
	return done
}

// TestRequestsTimeOut holds the disk: each request gives up after etcd's time, five seconds and two election timeouts, or
// when its caller does, and leaves nothing behind.
func TestRequestsTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS = disk
		m := start(t, cfg)
		m.put("k", "v")
		release := disk.stick()
		began := time.Now()
		all := together(t.Context(), callers(m))
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for name, done := range together(hasty, callers(m)) {
			if err := <-done; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("%s of a caller who gives up: %v after %v", name, err, time.Since(began))
			}
		}
		for name, done := range all {
			err := <-done
			if took := time.Since(began); !errors.Is(err, ErrTimeout) || took < 7*time.Second || took > 7*time.Second+waiterSweep {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		}
		release()
		synctest.Wait()
		if n := m.waiters.count(); n != 0 {
			t.Errorf("%d requests still wait", n)
		}
		m.put("k", "later")
	})
}

// TestStopAnswersEverybody stops a member on whose stuck disk requests wait: each is told that the member stops, so is who
// comes later, and Run returns.
func TestStopAnswersEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS = disk
		m := start(t, cfg)
		m.put("k", "v")
		release := disk.stick()
		waiting := together(context.Background(), callers(m))
		synctest.Wait()
		stopped := m.stopping()
		synctest.Wait()
		release()
		<-stopped
		for name, done := range waiting {
			if err := <-done; err != nil && !errors.Is(err, ErrStopped) {
				t.Errorf("%s that waited: %v", name, err)
			}
		}
		for _, calls := range []map[string]func(context.Context) error{callers(m), readers(m)} {
			for name, done := range together(context.Background(), calls) {
				if err := <-done; !errors.Is(err, ErrStopped) {
					t.Errorf("%s that came too late: %v", name, err)
				}
			}
		}
	})
}

// TestRequestTooLarge: the bound is on the entry that a request becomes.
func TestRequestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		cfg.RequestBytesMax = 1000
		m := start(t, cfg)
		fits := 0
		for n := 900; n <= 1000; n++ {
			_, err := m.tryPut(t.Context(), "k", strings.Repeat("x", n), 0)
			switch {
			case err == nil && fits == n-1 || n == 900 && err == nil:
				fits = n
			case err == nil:
				t.Fatalf("a value of %d bytes fits, one of %d did not", n, n-1)
			case !errors.Is(err, ErrRequestTooLarge):
				t.Fatal(err)
			}
		}
		if fits < 960 || fits > 995 {
			t.Errorf("the largest value that fits into 1000 bytes has %d", fits)
		}
	})
}

// TestSmallestRequests: however small requests have to be, the member itself comes up.
func TestSmallestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		cfg.RequestBytesMax = 1
		m := start(t, cfg)
		if _, err := m.tryPut(t.Context(), "k", "", 0); !errors.Is(err, ErrRequestTooLarge) {
			t.Error(err)
		}
		if got := m.get("k"); got != "" {
			t.Errorf("the key is %q", got)
		}
	})
}

// TestUnservedLeadership: a member alone cannot hand the leadership on, and says so in etcd's ways.
func TestUnservedLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		if err := m.MoveLeader(t.Context(), 99); !errors.Is(err, ErrBadLeaderTransferee) {
			t.Errorf("to nobody: %v", err)
		}
		if err := m.MoveLeader(t.Context(), m.ID()); err != nil {
			t.Errorf("to itself: %v", err)
		}
		m.put("k", "v")
	})
}

// TestPhysicalCompactionIsWaitedFor: with Physical the history is gone from the disk when the call returns.
func TestPhysicalCompactionIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		cfg.CompactionRows = 10
		m := start(t, cfg)
		for range 300 {
			m.put("k", "v")
		}
		rev := m.Header().Revision
		began := time.Now()
		if _, err := m.Compact(t.Context(), kv.CompactRequest{Revision: rev - 100}); err != nil || time.Since(began) != 0 {
			t.Errorf("a compaction took %v: %v", time.Since(began), err)
		}
		if _, err := m.Compact(t.Context(), kv.CompactRequest{Revision: rev, Physical: true}); err != nil {
			t.Fatal(err)
		}
		if scheduled, finished := m.keys.Compaction(); scheduled != rev || finished != rev {
			t.Errorf("compaction is scheduled at %v and finished at %v, want %v", scheduled, finished, rev)
		}
		if took := time.Since(began); took < 10*cfg.CompactionPause || took > 10*time.Second {
			t.Errorf("steps of 10 rows took %v: they come with pauses", took)
		}
	})
}

// TestCompactionReplayedAtStart: one at revision 0, lost from the store by a crash and found in the log again, is carried
// out again. Left lying, it would keep the hash of the next one from being remembered.
func TestCompactionReplayedAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		m := start(t, cfg)
		if _, err := m.Compact(t.Context(), kv.CompactRequest{Revision: 0, Physical: true}); err != nil {
			t.Fatal(err)
		}
		m.put("k", "v") // only after it is the compaction known to be committed when the log is read
		m.put("k", "v")
		cfg.FS = fs.CrashClone(vfs.CrashCloneCfg{})
		m.stop()
		m = start(t, cfg)
		synctest.Wait()
		if scheduled, finished := m.keys.Compaction(); scheduled != 0 || finished != 0 {
			t.Errorf("compaction is scheduled at %v and finished at %v, want 0", scheduled, finished)
		}
	})
}

// TestSerializableReadsNeedNoDisk: they are answered while nothing can be committed; so are linearizable ones of the only
// voter, who needs nobody's word.
func TestSerializableReadsNeedNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS = disk
		m := start(t, cfg)
		m.put("k", "v")
		defer disk.stick()()
		r, err := m.Range(t.Context(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}, Serializable: true})
		if err != nil || r.Count != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if got := m.get("k"); got != "v" {
			t.Errorf("a linearizable read gave %q", got)
		}
	})
}

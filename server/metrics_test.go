package server

import (
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"holdfast/kv"
	"holdfast/metrics"
)

// shown reads one number out of what a set shows; name is that of the series, labels included.
func shown(t *testing.T, set *metrics.Set, name string) float64 {
	t.Helper()
	w := httptest.NewRecorder()
	set.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(w.Body.String())
	if found == nil {
		t.Errorf("%s is not shown", name)
		return -1
	}
	v, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Errorf("%s is %s", name, found[1])
	}
	return v
}

type lossy struct{}

func (lossy) Send([]*raftpb.Message) {}

// TestLateHeartbeats: a heartbeat counts as late two intervals after the one before to the same member in the same term.
func TestLateHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := newInstruments(metrics.New(metrics.Config{}), time.Now)
		w := newHeartbeatWatch(lossy{}, seen, 100*time.Millisecond)
		beat := func(to, term uint64, kind raftpb.MessageType) {
			w.Send([]*raftpb.Message{{To: &to, Term: &term, Type: kind.Enum()}})
		}
		for _, step := range []struct {
			after    time.Duration
			to, term uint64
			late     uint64
		}{
			{0, 2, 5, 0}, {time.Second, 3, 5, 0}, {100 * time.Millisecond, 3, 5, 0}, {0, 2, 5, 1},
			{200 * time.Millisecond, 2, 5, 1}, {201 * time.Millisecond, 2, 5, 2}, {time.Hour, 2, 6, 2},
		} {
			time.Sleep(step.after)
			beat(step.to, step.term, raftpb.MsgApp) // is no heartbeat
			beat(step.to, step.term, raftpb.MsgHeartbeat)
			if n := seen.lateHeartbeats.Load(); n != step.late {
				t.Errorf("after %+v: %d late", step, n)
			}
		}
	})
}

// TestOperationsAreCounted: what clients do shows up, once each.
func TestOperationsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		cfg.Metrics = metrics.New(metrics.Config{Old: true})
		s := start(t, cfg)
		ctx := t.Context()
		for range 3 {
			s.put("k", "value")
		}
		if _, err := s.Range(ctx, &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Range(ctx, &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}, Revision: 1 << 40}); err == nil {
			t.Fatal("a future revision is answered")
		}
		l, err := s.LeaseGrant(ctx, kv.LeaseGrantRequest{TTL: 60})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.LeaseRenew(ctx, l.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.LeaseRevoke(ctx, l.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Compact(ctx, kv.CompactRequest{Revision: 4, Physical: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.MemberPromote(ctx, 99); err == nil {
			t.Fatal("nobody is promoted")
		}
		synctest.Wait()
		for name, want := range map[string]float64{
			"etcd_mvcc_put_total": 3, "etcd_debugging_mvcc_put_total": 3, "etcd_debugging_mvcc_total_put_size_in_bytes": 18, "etcd_mvcc_delete_total": 0,
			"etcd_debugging_mvcc_keys_total": 1, "etcd_debugging_mvcc_compact_revision": 4, "etcd_debugging_mvcc_db_compaction_keys_total": 2,
			`etcd_server_request_duration_seconds_count{success="true",type="Put"}`:                 3,
			`etcd_server_request_duration_seconds_count{success="true",type="Range"}`:               1,
			`etcd_server_request_duration_seconds_count{success="false",type="Range"}`:              1,
			`etcd_server_request_duration_seconds_count{success="true",type="LeaseGrant"}`:          1,
			`etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}`:        3,
			`etcd_server_apply_duration_seconds_count{op="Compaction",success="true",version="v3"}`: 1,
			`etcd_server_range_duration_seconds_count{success="false"}`:                             1,
			"etcd_debugging_lease_granted_total":                                                    1, "etcd_debugging_lease_revoked_total": 1, "etcd_debugging_lease_renewed_total": 1,
			`etcd_debugging_lease_ttl_total_bucket{le="64"}`: 1, "etcd_debugging_server_lease_expired_total": 0, "holdfast_leases": 0,
			"etcd_server_leader_changes_seen_total": 1, "etcd_server_has_leader": 1, "etcd_server_proposals_pending": 0,
			`etcd_server_learner_promote_failures{Reason="membership: ID not found"}`: 1, "etcd_debugging_auth_revision": 1,
			"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count": 1,
		} {
			if got := shown(t, cfg.Metrics, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		for _, name := range []string{"etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_backend_commit_duration_seconds_count", "etcd_debugging_mvcc_db_compaction_last"} {
			if shown(t, cfg.Metrics, name) <= 0 {
				t.Errorf("%s is not above 0", name)
			}
		}
	})
}

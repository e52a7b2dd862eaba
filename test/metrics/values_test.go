package metrics

import (
	"bufio"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// exact are the series whose values follow from what clients did, and from nothing else.
var exact = regexp.MustCompile(`^(` + strings.Join([]string{
	"etcd_mvcc_(put|delete|txn|range)_total", "etcd_debugging_mvcc_(keys_total|current_revision|compact_revision|total_put_size_in_bytes)",
	"etcd_debugging_mvcc_(db_compaction_keys|events|watcher|watch_stream|slow_watcher|pending_events)_total",
	"etcd_debugging_lease_(granted|revoked|renewed)_total", `etcd_debugging_lease_ttl_total_.*`, "etcd_debugging_server_lease_expired_total",
	`etcd_server_(has_leader|is_leader|is_learner|leader_changes_seen_total|proposals_failed_total|proposals_pending|learner_promote_.*)`,
	`etcd_server_(request|apply|range)_duration_seconds_count\{.*`, `etcd_server_client_requests_total\{.*`, `etcd_server_version\{.*`,
	"etcd_server_health_(success|failures)", `etcd_server_healthchecks?(_total)?\{.*`, "etcd_disk_backend_(defrag|snapshot)_duration_seconds_count", "etcd_mvcc_hash(_rev)?_duration_seconds_count",
	`grpc_server_(started|handled|msg_received|msg_sent)_total\{.*`, `etcd_cluster_version\{.*`, `etcd_server_feature_enabled\{.*`,
	`etcd_network_server_stream_failures_total.*`, "etcd_debugging_auth_revision",
	"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
}, "|") + `)$`)

// chance is what follows from how fast the client goes away after it has said that it will.
var chance = regexp.MustCompile(`^grpc_server_handled_total\{grpc_code="(OK|Canceled)",grpc_method="LeaseKeepAlive"`)

// differs are those whose values are others here, with the reason.
var differs = map[string]string{
	"etcd_mvcc_range_total":             "etcd counts what compares of transactions read, too",
	received("Lease", "LeaseKeepAlive"): "etcd counts the end of a stream as a message",
	received("Watch", "Watch"):          "etcd counts the end of a stream as a message",
}

func received(service, method string) string {
	return `grpc_server_msg_received_total{grpc_method="` + method + `",grpc_service="etcdserverpb.` + service + `",grpc_type="bidi_stream"}`
}

func values(t *testing.T, text string) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		i := strings.LastIndexByte(lines.Text(), ' ')
		if i < 0 || !exact.MatchString(lines.Text()[:i]) || chance.MatchString(lines.Text()) {
			continue
		}
		v, err := strconv.ParseFloat(lines.Text()[i+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		found[lines.Text()[:i]] = v
	}
	return found
}

// settled are the values once the member has noticed that its clients have gone, and nothing moves any more.
func settled(t *testing.T, m *run.Server) map[string]float64 {
	t.Helper()
	const streams = "etcd_debugging_mvcc_watch_stream_total"
	before := values(t, scrape(t, m.Client))
	for range 100 {
		time.Sleep(200 * time.Millisecond)
		now := values(t, scrape(t, m.Client))
		if now[streams] == 0 && maps.Equal(now, before) {
			return now
		}
		before = now
	}
	t.Fatal("the member does not come to rest")
	return nil
}

// TestA4Values: under the same load a member counts what etcd counts.
func TestA4Values(t *testing.T) {
	if testing.Short() {
		t.Skip("starts members")
	}
	counted := func(binary string) map[string]float64 {
		m := startMembers(t, binary, 1)[0]
		before := values(t, scrape(t, m.Client))
		load(t, m)
		after := settled(t, m)
		for name := range after { // a member's start has reads of its own
			if strings.Contains(name, "grpc_") || strings.Contains(name, "range") || strings.Contains(name, "client_requests") || strings.Contains(name, `type="Range"`) {
				after[name] -= before[name]
			}
		}
		return after
	}
	want, got := counted(etcd.Binary(t, "etcd")), counted(run.Holdfast(t))
	for name, v := range want {
		g, is := got[name]
		switch reason := differs[name]; {
		case (!is || g != v) && reason == "":
			t.Errorf("%s is %v (shown: %v), want %v", name, g, is, v)
		case is && g == v && reason != "":
			t.Errorf("%s is %v as with etcd, although %s", name, g, reason)
		}
	}
	for name, g := range got {
		if _, is := want[name]; !is && g != 0 {
			t.Errorf("%s is %v, and not shown by etcd", name, g)
		}
	}
}

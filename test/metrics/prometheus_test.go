package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// prometheus is a running Prometheus.
type prometheus struct{ at string }

// interval is how often it looks at the members.
const interval = "500ms"

// startPrometheus runs Debian's Prometheus over the members until the test ends.
func startPrometheus(t *testing.T, members []*run.Server) *prometheus {
	t.Helper()
	binary, dir := debian(t, "prometheus"), t.TempDir()
	var targets []string
	for _, m := range members {
		targets = append(targets, strconv.Quote(m.Client))
	}
	config := fmt.Sprintf("global: {scrape_interval: %s, scrape_timeout: %s}\nscrape_configs:\n- job_name: etcd\n  static_configs: [{targets: [%s]}]\n",
		interval, interval, strings.Join(targets, ", "))
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{at: etcd.FreeAddress(t)}
	process := &run.Process{Log: filepath.Join(dir, "prometheus.log")}
	argv := []string{binary, "--config.file=" + path, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + p.at}
	if err := process.Exec(argv, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	p.await(t, "up", func(got []float64) bool { return len(got) == len(members) && slices.Min(got) == 1 })
	return p
}

// await asks until the values that a query returns are as wanted.
func (p *prometheus) await(t *testing.T, query string, enough func([]float64) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		got, err := p.ask(ctx, query)
		if err == nil && enough(got) {
			return
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s gives %v, %v", query, got, err)
		}
	}
}

// ask returns the values of an instant query that are numbers.
func (p *prometheus) ask(ctx context.Context, query string) ([]float64, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.at+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return nil, err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status string
		Data   struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return nil, fmt.Errorf("%v: %s", err, body)
	}
	var values []float64
	for _, series := range answer.Data.Result {
		text, _ := series.Value[1].(string)
		if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return values, nil
}

// mixin is what the program of that name prints.
type mixin struct {
	Alerts struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	Dashboards map[string]any
}

// queries returns the queries of etcd's alert rules, without the limits that make them silent while all is well, and of its dashboard.
func queries(t *testing.T) map[string]bool {
	t.Helper()
	root, err := etcd.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", ".")
	cmd.Dir, cmd.Env = filepath.Join(root, "test", "metrics", "mixin"), append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("render etcd's rules and dashboard: %v", err)
	}
	var m mixin
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, g := range m.Alerts.Groups {
		for _, r := range g.Rules {
			found[withoutLimits(r.Expr)] = true
		}
	}
	if len(found) < 12 {
		t.Errorf("there are %d alerts", len(found))
	}
	panels := map[string]bool{}
	collect(m.Dashboards, panels)
	if len(panels) < 15 {
		t.Errorf("there are %d panels", len(panels))
	}
	maps.Copy(found, panels)
	return found
}

var (
	limit   = regexp.MustCompile(`\s(==|>=|<=|>|<)\s*(bool )?[0-9.]+`)
	against = regexp.MustCompile(`\s[<>]\s`)
	space   = regexp.MustCompile(`\s+`)
)

// withoutLimits takes the comparisons with numbers out of an expression, and makes differences of those with other series.
func withoutLimits(expr string) string {
	expr = limit.ReplaceAllString(space.ReplaceAllString(expr, " "), "")
	return strings.TrimSpace(against.ReplaceAllString(expr, " - "))
}

// collect finds the queries in a dashboard and gives its variables values.
func collect(in any, found map[string]bool) {
	switch in := in.(type) {
	case map[string]any:
		if expr, is := in["expr"].(string); is {
			found[strings.NewReplacer("$cluster", "etcd", "$__rate_interval", "1m").Replace(space.ReplaceAllString(expr, " "))] = true
		}
		for _, v := range in {
			collect(v, found)
		}
	case []any:
		for _, v := range in {
			collect(v, found)
		}
	}
}

// loadFor is how long the members are under load: one round of it, or ten minutes in the long form, after which every window of a rule
// but that of four hours is full.
func loadFor() time.Duration {
	if os.Getenv("HOLDFAST_METRICS") == "long" {
		return 10 * time.Minute
	}
	return 0
}

// TestA4Prometheus: Debian's Prometheus looks at three members under load, and every query of etcd's alert rules and dashboard returns
// data. What is no name of ours returns none.
func TestA4Prometheus(t *testing.T) {
	debian(t, "prometheus")
	asked := queries(t)
	members := startMembers(t, run.Holdfast(t), 3)
	p := startPrometheus(t, members)
	for began := time.Now(); ; {
		for _, m := range members {
			load(t, m)
		}
		if time.Since(began) >= loadFor() {
			break
		}
	}
	// Rates need two looks, the second after the load.
	p.await(t, "min(count_over_time(up[1m]))", func(got []float64) bool { return len(got) == 1 && got[0] >= 3 })
	for query := range asked {
		p.await(t, query, func(got []float64) bool { return len(got) > 0 })
	}
	t.Logf("%d queries return data", len(asked))
	if got, err := p.ask(t.Context(), "rate(etcd_no_such_name[1m])"); err != nil || len(got) > 0 {
		t.Errorf("a name that nobody has gives %v, %v", got, err)
	}
}

// TestE11PeerRoundTrips: the round trips between members are a histogram with etcd's buckets by the label To, one for each other member
// of each, and the query of the dashboard's panel gives a line for each member.
func TestE11PeerRoundTrips(t *testing.T) {
	members := startMembers(t, run.Holdfast(t), 3)
	p := startPrometheus(t, members)
	const name = "etcd_network_peer_round_trip_time_seconds"
	p.await(t, "count(count by (instance, To) ("+name+"_bucket)) and min("+name+"_count) > 0", func(got []float64) bool {
		return len(got) == 1 && got[0] == 6
	})
	panel := "histogram_quantile(0.99, sum by (instance, le) (rate(" + name + `_bucket{job=~".*etcd.*", job="etcd"}[1m])))`
	p.await(t, panel, func(got []float64) bool { return len(got) == 3 && slices.Min(got) > 0 && slices.Max(got) < 10 })
	for _, m := range members {
		s := shapes(t, scrape(t, m.Client))[name]
		if len(s.bounds) != 17 || s.bounds[0] != 0.0001 || s.bounds[15] != 3.2768 || !slices.Equal(s.labels, []string{"To"}) {
			t.Errorf("the histogram is a %v", s)
		}
	}
}

// boards are the names that dashboards and alerts outside of etcd's project ask for: those of StorageOS, OpenShift and kube-burner.
var boards = strings.Fields(`
	etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes etcd_server_quota_backend_bytes
	etcd_disk_wal_fsync_duration_seconds_bucket etcd_disk_wal_fsync_duration_seconds_sum etcd_disk_wal_fsync_duration_seconds_count
	etcd_disk_backend_commit_duration_seconds_bucket etcd_disk_backend_commit_duration_seconds_sum etcd_disk_backend_commit_duration_seconds_count
	etcd_disk_backend_defrag_duration_seconds_sum etcd_disk_wal_write_bytes_total
	etcd_server_has_leader etcd_server_is_leader etcd_server_leader_changes_seen_total
	etcd_server_proposals_committed_total etcd_server_proposals_applied_total etcd_server_proposals_failed_total etcd_server_proposals_pending
	etcd_server_slow_apply_total etcd_server_slow_read_indexes_total etcd_server_heartbeat_send_failures_total etcd_server_health_failures
	etcd_server_id etcd_cluster_version etcd_network_peer_round_trip_time_seconds_bucket etcd_network_peer_sent_bytes_total
	etcd_network_peer_received_bytes_total etcd_network_peer_sent_failures_total
	etcd_network_client_grpc_sent_bytes_total etcd_network_client_grpc_received_bytes_total
	etcd_mvcc_put_total etcd_mvcc_delete_total etcd_debugging_mvcc_keys_total etcd_debugging_mvcc_db_compaction_keys_total
	etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_bucket etcd_debugging_snap_save_total_duration_seconds_bucket
	grpc_server_started_total grpc_server_handled_total grpc_server_handling_seconds_bucket
	process_resident_memory_bytes process_cpu_seconds_total process_open_fds process_max_fds go_goroutines go_memstats_alloc_bytes
	etcd_debugging_mvcc_put_total etcd_debugging_mvcc_delete_total os_fd_used os_fd_limit etcd_disk_defrag_inflight etcd_server_is_learner`)

// TestA5Boards: every name that dashboards and alerts elsewhere rest on has data on each of three members after a short load, the names
// that etcd gave up among them. Counters of what was done have moved.
func TestA5Boards(t *testing.T) {
	debian(t, "prometheus")
	members := startMembers(t, run.Holdfast(t), 3, "--metrics-old-names")
	p := startPrometheus(t, members)
	for _, m := range members {
		load(t, m)
	}
	for _, name := range boards {
		p.await(t, "count(count by (instance) ("+name+"))", func(got []float64) bool { return len(got) == 1 && got[0] == 3 })
	}
	for _, name := range []string{"etcd_mvcc_put_total", "etcd_debugging_mvcc_put_total", "etcd_mvcc_delete_total", "etcd_debugging_mvcc_db_compaction_keys_total",
		"etcd_network_client_grpc_sent_bytes_total", "etcd_disk_wal_write_bytes_total", "etcd_server_proposals_applied_total", "etcd_network_peer_sent_bytes_total"} {
		p.await(t, "min("+name+")", func(got []float64) bool { return len(got) == 1 && got[0] > 0 })
	}
}

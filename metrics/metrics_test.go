package metrics

import (
	"bufio"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestEtcdsNames: every name that etcd has is declared with etcd's type, labels and buckets.
func TestEtcdsNames(t *testing.T) {
	ours := map[string]*Family{}
	for _, f := range Families() {
		if ours[f.Name] != nil {
			t.Errorf("%s is declared twice", f.Name)
		}
		ours[f.Name] = f
	}
	table, err := os.Open("testdata/etcd.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	n := 0
	for lines := bufio.NewScanner(table); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var name, kind, labels, bounds string
		if _, err := fmt.Sscan(lines.Text(), &name, &kind, &labels, &bounds); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		n++
		f := ours[name]
		if f == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		if got := strings.Join(sorted(f.Labels), ","); got != strings.Join(sorted(list(labels)), ",") || string(f.Type) != kind {
			t.Errorf("%s is a %s by %s, want a %s by %s", name, f.Type, got, kind, labels)
		}
		if want := bucketsOf(t, bounds); !slices.Equal(f.Buckets, want) {
			t.Errorf("%s has the buckets %v, want %v", name, f.Buckets, want)
		}
	}
	if n < 100 {
		t.Errorf("the table has %d names", n)
	}
}

func list(text string) []string {
	if text == "-" {
		return nil
	}
	return strings.Split(text, ",")
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func bucketsOf(t *testing.T, text string) []float64 {
	if text == "-" {
		return nil
	}
	var first, factor float64
	var n int
	if _, err := fmt.Sscanf(text, "%g,%g,%d", &first, &factor, &n); err != nil {
		t.Fatalf("buckets %q: %v", text, err)
	}
	return prometheus.ExponentialBuckets(first, factor, n)
}

func show(s *Set) string {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// TestShownFromTheStart: what has no labels is shown before anything has happened, the names that etcd gave up only if asked for.
func TestShownFromTheStart(t *testing.T) {
	for _, old := range []bool{false, true} {
		text := show(New(Config{Old: old}))
		for _, f := range Families() {
			is := strings.Contains(text, "\n# TYPE "+f.Name+" "+string(f.Type)+"\n")
			if want := len(f.Labels) == 0 && (!f.Old || old); want && !is || f.Old && !old && is {
				t.Errorf("%s is shown: %v (old %v)", f.Name, is, old)
			}
		}
		for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "promhttp_metric_handler_requests_total", "os_fd_used"} {
			if !strings.Contains(text, "# TYPE "+name+" ") {
				t.Errorf("%s is missing", name)
			}
		}
	}
}

// TestIdleSaysSo: what has no counterpart says so in its help, and nothing else does.
func TestIdleSaysSo(t *testing.T) {
	for _, f := range Families() {
		if f.Idle != strings.HasSuffix(f.Help, nothingHere) || f.Help == nothingHere {
			t.Errorf("%s: idle %v, help %q", f.Name, f.Idle, f.Help)
		}
	}
}

// TestSet: what is held and what is sampled come out as counted.
func TestSet(t *testing.T) {
	s := New(Config{})
	h := s.Histogram(WALSyncDuration)
	h.Took(1500 * time.Microsecond)
	o := s.Outcomes(RequestDuration, func(op, success string) []string { return []string{op, success} })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				o.Took("Put", true, time.Millisecond)
				o.Took("Put", false, time.Second)
				o.Took("Txn", true, time.Second)
			}
		})
	}
	wg.Wait()
	s.Counters(StreamFailures).Inc("send", "watch")
	s.Sample(func(out *Sample) {
		out.Set(KnownPeers, 1, "a", "b")
		out.Bool(HasLeader, true)
		counts := make([]uint64, len(PeerRoundTrip.Buckets)+1)
		counts[0], counts[1], counts[len(counts)-1] = 1, 2, 3
		out.Histogram(PeerRoundTrip, counts, 2.5, "b")
	})
	text := show(s)
	for _, want := range []string{
		`etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 0`, `etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 1`,
		`etcd_server_request_duration_seconds_count{success="true",type="Put"} 800`,
		`etcd_server_request_duration_seconds_count{success="false",type="Put"} 800`,
		`etcd_server_request_duration_seconds_count{success="true",type="Txn"} 800`,
		`etcd_network_server_stream_failures_total{API="watch",Type="send"} 1`,
		`etcd_network_known_peers{Local="a",Remote="b"} 1`, `etcd_server_has_leader 1`,
		`etcd_network_peer_round_trip_time_seconds_bucket{To="b",le="0.0001"} 1`,
		`etcd_network_peer_round_trip_time_seconds_bucket{To="b",le="0.0002"} 3`,
		`etcd_network_peer_round_trip_time_seconds_bucket{To="b",le="+Inf"} 6`,
		`etcd_network_peer_round_trip_time_seconds_sum{To="b"} 2.5`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a family is held twice")
		}
	}()
	s.Histogram(WALSyncDuration)
}

func BenchmarkOutcomes(b *testing.B) {
	o := New(Config{}).Outcomes(RequestDuration, func(op, success string) []string { return []string{op, success} })
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			o.Took("Put", true, time.Millisecond)
		}
	})
}

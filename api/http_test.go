package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/membership"
	"holdfast/server"
)

// TestHTTP is the table of what HTTP clients ask a healthy member, and one with something wrong.
func TestHTTP(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		raise := func(kind membership.AlarmType) func() {
			return func() {
				a := membership.Alarm{Member: s.member.ID(), Type: kind}
				if _, err := s.member.Alarm(t.Context(), server.AlarmActivate, a); err != nil {
					t.Fatal(err)
				}
			}
		}
		for s.member.ClusterVersion() == "" { // which its leader decides a moment after it is ready
			time.Sleep(time.Millisecond)
		}
		healthy := `{"health":"true","reason":""}`
		noLeader := `{"health":"false","reason":"RAFT NO LEADER"}` + "\n"
		noSpace := `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"
		corrupt := `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"
		for _, c := range []struct {
			before func()
			method string
			path   string
			code   int
			want   string
		}{
			{nil, "GET", "/version", 200, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`},
			{nil, "HEAD", "/version", 405, "Method Not Allowed\n"},
			{nil, "POST", "/version", 405, "Method Not Allowed\n"},
			{nil, "GET", "/health", 200, healthy},
			{nil, "GET", "/health?serializable=true&exclude=NOSPACE", 200, healthy},
			{nil, "HEAD", "/health", 405, "Method Not Allowed\n"},
			{nil, "PUT", "/health", 405, "Method Not Allowed\n"},
			{nil, "GET", "/nothing", 404, "404 page not found\n"},
			{nil, "POST", "/v3/kv/range", 404, "404 page not found\n"},
			{func() { s.fake.leaderless.Store(true) }, "GET", "/health", 503, noLeader},
			{nil, "GET", "/health?serializable=true", 200, healthy},
			{nil, "GET", "/health?serializable=false", 503, noLeader},
			{func() { s.fake.leaderless.Store(false) }, "GET", "/health", 200, healthy},

			{nil, "GET", "/livez", 200, "ok\n"},
			{nil, "GET", "/livez?verbose", 200, "[+]serializable_read ok\nok\n"},
			{nil, "GET", "/livez/serializable_read", 200, "ok\n"},
			{nil, "GET", "/livez/linearizable_read", 404, "404 page not found\n"},
			{nil, "HEAD", "/livez", 405, "Method Not Allowed\n"},
			{nil, "GET", "/readyz", 200, "ok\n"},
			{nil, "GET", "/readyz?verbose=false", 200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"},
			{nil, "GET", "/readyz?verbose&exclude=serializable_read&exclude=non_learner", 200, "[+]data_corruption ok\n[+]linearizable_read ok\nok\n"},
			{nil, "GET", "/readyz?exclude=no_such_check&exclude=", 200, "ok\n"},
			{nil, "GET", "/readyz/non_learner?verbose", 200, "[+]non_learner ok\nok\n"},
			{nil, "POST", "/readyz/non_learner", 405, "Method Not Allowed\n"},
			{func() { s.fake.learner.Store(true) }, "GET", "/readyz?exclude=data_corruption", 503,
				"[+]serializable_read ok\n[+]linearizable_read ok\n[-]non_learner failed: not supported for learner\n\n"},
			{nil, "GET", "/livez", 200, "ok\n"},
			{func() { s.fake.learner.Store(false) }, "GET", "/readyz", 200, "ok\n"},

			{raise(membership.AlarmNoSpace), "GET", "/health", 503, noSpace},
			{nil, "GET", "/health?serializable=true", 503, noSpace},
			{nil, "GET", "/health?exclude=NOSPACE", 200, healthy},
			{nil, "GET", "/health?exclude=CORRUPT", 503, noSpace},
			{nil, "GET", "/health?exclude=", 503, noSpace},
			{nil, "GET", "/readyz", 200, "ok\n"},
			{raise(membership.AlarmCorrupt), "GET", "/health?exclude=NOSPACE", 503, corrupt},
			{nil, "GET", "/health?exclude=NOSPACE&exclude=CORRUPT", 200, healthy},
			{nil, "GET", "/readyz?exclude=linearizable_read&exclude=serializable_read", 503,
				"[-]data_corruption failed: alarm activated: CORRUPT\n[+]non_learner ok\n\n"},
			{nil, "GET", "/readyz/data_corruption", 503, "[-]data_corruption failed: alarm activated: CORRUPT\n\n"},
			{nil, "GET", "/livez", 200, "ok\n"},
			{func() { s.fake.rangeErr = errors.New("disk on fire") }, "GET", "/health?exclude=NOSPACE&exclude=CORRUPT", 503,
				`{"health":"false","reason":"RANGE ERROR:disk on fire"}` + "\n"},
			{nil, "GET", "/livez", 503, "[-]serializable_read failed: disk on fire\n\n"},
			{func() { s.fake.rangeErr = server.ErrTimeout }, "GET", "/health?exclude=NOSPACE&exclude=CORRUPT", 503,
				`{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}` + "\n"},
			{nil, "GET", "/readyz/linearizable_read", 503, "[-]linearizable_read failed: etcdserver: request timed out\n\n"},
		} {
			if c.before != nil {
				c.before()
			}
			w := httptest.NewRecorder()
			s.api.handler(nil).ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.code || w.Body.String() != c.want {
				t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, w.Code, w.Body, c.code, c.want)
			}
			if c.code == 405 && w.Header().Get("Allow") != "GET" {
				t.Errorf("%s %s: allowed is %q", c.method, c.path, w.Header().Get("Allow"))
			}
		}
	})
}

// TestHealthIsCounted: the outcomes of each check, and the last one.
func TestHealthIsCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		ask := func(path string) {
			s.api.web.Metrics().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		}
		ask("/livez")
		ask("/livez")
		s.fake.learner.Store(true)
		ask("/readyz?exclude=data_corruption")
		ask("/health")
		text := metricsOf(s)
		for _, want := range []string{
			`etcd_server_healthchecks_total{name="serializable_read",status="success",type="livez"} 2`,
			`etcd_server_healthchecks_total{name="non_learner",status="error",type="readyz"} 1`,
			`etcd_server_healthcheck{name="non_learner",type="readyz"} 0`,
			`etcd_server_healthcheck{name="serializable_read",type="livez"} 1`,
			`etcd_server_health_success 1`,
		} {
			if !strings.Contains(text, "\n"+want+"\n") {
				t.Errorf("no %s", want)
			}
		}
		if strings.Contains(text, `name="data_corruption"`) {
			t.Error("a check that never ran is counted")
		}
	})
}

// TestHTTPDoors: each port serves its part.
func TestHTTPDoors(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		for name, c := range map[string]struct {
			handler http.Handler
			codes   map[string]int
		}{
			"clients": {s.api.handler(nil), map[string]int{"/version": 200, "/health": 200, "/metrics": 200, "/members": 404}},
			"metrics": {s.api.web.Metrics(), map[string]int{"/version": 404, "/health": 200, "/metrics": 200, "/members": 404}},
			"peers":   {s.api.web.Peers(), map[string]int{"/version": 200, "/members": 200, "/health": 404, "/metrics": 404}},
		} {
			for path, code := range c.codes {
				w := httptest.NewRecorder()
				c.handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				if w.Code != code {
					t.Errorf("%s: %s gives %d, want %d", name, path, w.Code, code)
				}
			}
		}
		w := httptest.NewRecorder()
		s.api.web.Peers().ServeHTTP(w, httptest.NewRequest("GET", "/members", nil))
		want := `[{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default","clientURLs":["http://localhost:2379"]}]` + "\n"
		if w.Body.String() != want || w.Header().Get("X-Etcd-Cluster-ID") != "cdf818194e3a8c32" {
			t.Errorf("members %s of cluster %s", w.Body, w.Header().Get("X-Etcd-Cluster-ID"))
		}
	})
}

// TestMetrics: dashboards made for etcd find their names, with values that follow the member.
func TestMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		s.put("k", "v")
		w := httptest.NewRecorder()
		s.api.web.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for _, want := range []string{
			"\netcd_server_has_leader 1\n", "\netcd_server_is_leader 1\n", "\netcd_server_is_learner 0\n", "\netcd_debugging_mvcc_current_revision 2\n",
			"\netcd_server_version{server_version=\"3.7.3\"} 1\n", "\netcd_mvcc_db_total_size_in_bytes ", "\nholdfast_build_info{",
			"\netcd_server_proposals_applied_total ", "\nprocess_open_fds ", "\ngo_goroutines ",
		} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("no %q", want)
			}
		}
	})
}

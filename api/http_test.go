package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
		healthy := `{"health":"true","reason":""}`
		noLeader := `{"health":"false","reason":"RAFT NO LEADER"}`
		noSpace := `{"health":"false","reason":"ALARM NOSPACE"}`
		corrupt := `{"health":"false","reason":"ALARM CORRUPT"}`
		for _, c := range []struct {
			before func()
			method string
			path   string
			code   int
			want   string
		}{
			{nil, "GET", "/version", 200, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`},
			{nil, "HEAD", "/version", 200, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`},
			{nil, "POST", "/version", 405, "Method Not Allowed\n"},
			{nil, "GET", "/health", 200, healthy},
			{nil, "GET", "/health?serializable=true&exclude=NOSPACE", 200, healthy},
			{nil, "PUT", "/health", 405, "Method Not Allowed\n"},
			{nil, "GET", "/nothing", 404, "404 page not found\n"},
			{func() { s.fake.leaderless.Store(true) }, "GET", "/health", 503, noLeader},
			{nil, "GET", "/health?serializable=true", 200, healthy},
			{nil, "GET", "/health?serializable=false", 503, noLeader},
			{func() { s.fake.leaderless.Store(false) }, "GET", "/health", 200, healthy},
			{raise(membership.AlarmNoSpace), "GET", "/health", 503, noSpace},
			{nil, "GET", "/health?serializable=true", 503, noSpace},
			{nil, "GET", "/health?exclude=NOSPACE", 200, healthy},
			{nil, "GET", "/health?exclude=CORRUPT", 503, noSpace},
			{nil, "GET", "/health?exclude=", 503, noSpace},
			{raise(membership.AlarmCorrupt), "GET", "/health?exclude=NOSPACE", 503, corrupt},
			{nil, "GET", "/health?exclude=NOSPACE&exclude=CORRUPT", 200, healthy},
			{func() { s.fake.rangeErr = errors.New("disk on fire") }, "GET", "/health?exclude=NOSPACE&exclude=CORRUPT", 503,
				`{"health":"false","reason":"RANGE ERROR:disk on fire"}`},
			{func() { s.fake.rangeErr = server.ErrTimeout }, "GET", "/health?exclude=NOSPACE&exclude=CORRUPT", 503,
				`{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}`},
		} {
			if c.before != nil {
				c.before()
			}
			w := httptest.NewRecorder()
			s.api.handler().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.code || w.Body.String() != c.want {
				t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, w.Code, w.Body, c.code, c.want)
			}
			if c.code == 405 && w.Header().Get("Allow") != "GET" {
				t.Errorf("%s %s: allowed is %q", c.method, c.path, w.Header().Get("Allow"))
			}
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
			"clients": {s.api.handler(), map[string]int{"/version": 200, "/health": 200, "/metrics": 200, "/members": 404}},
			"metrics": {s.api.metricsHandler(), map[string]int{"/version": 404, "/health": 200, "/metrics": 200, "/members": 404}},
			"peers":   {s.api.peerHandler(), map[string]int{"/version": 200, "/members": 200, "/health": 404, "/metrics": 404}},
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
		s.api.peerHandler().ServeHTTP(w, httptest.NewRequest("GET", "/members", nil))
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
		s.api.metricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
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

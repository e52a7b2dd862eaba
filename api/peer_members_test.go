package api

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"holdfast/server"
)

// TestPeerMembers is the table of what members and tools are told about the membership on the peer URLs: status, content
// type and text are etcd's.
func TestPeerMembers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		learner, _, err := s.member.MemberAdd(t.Context(), []string{"http://127.0.0.1:9"}, true)
		if err != nil {
			t.Fatal(err)
		}
		self := uint64(s.member.ID())
		one := fmt.Sprintf(`{"id":%d,"peerURLs":["http://localhost:2380"],"name":"default","clientURLs":["http://localhost:2379"]}`, self)
		two := fmt.Sprintf(`{"id":%d,"peerURLs":["http://127.0.0.1:9"],"isLearner":true}`, uint64(learner.ID))
		if uint64(learner.ID) < self {
			one, two = two, one
		}
		const text, json = "text/plain; charset=utf-8", "application/json"
		inSync := "etcdserver: " + server.ErrLearnerNotReady.Error() + "\n"
		for _, c := range []struct {
			method, path string
			code         int
			kind, body   string
		}{
			{"GET", "/members", 200, json, "[" + one + "," + two + "]\n"},
			{"POST", "/members", 405, text, "Method Not Allowed\n"},
			{"HEAD", "/members", 405, text, "Method Not Allowed\n"},
			{"GET", "/members/", 404, text, "404 page not found\n"},
			{"GET", "/members/1", 404, text, "404 page not found\n"},
			{"GET", "/members/promote/" + "1", 405, text, "Method Not Allowed\n"},
			{"POST", "/members/promote/", 404, text, "member  not found in cluster\n"},
			{"POST", "/members/promote/" + "x1", 404, text, "member x1 not found in cluster\n"},
			{"POST", "/members/promote/" + "77", 404, text, "membership: ID not found\n"},
			{"POST", "/members/promote/" + fmt.Sprint(self), 412, text, "membership: can only promote a learner member\n"},
			{"POST", "/members/promote/" + fmt.Sprint(uint64(learner.ID)), 412, text, inSync},
			{"GET", "/downgrade/enabled", 200, "text/plain", "false"},
			{"POST", "/downgrade/enabled", 405, text, "Method Not Allowed\n"},
		} {
			w := httptest.NewRecorder()
			s.api.web.Peers().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.code || w.Header().Get("Content-Type") != c.kind || w.Body.String() != c.body {
				t.Errorf("%s %s: %d %s %q, want %d %s %q", c.method, c.path, w.Code, w.Header().Get("Content-Type"), w.Body, c.code, c.kind, c.body)
			}
			if cluster := w.Header().Get("X-Etcd-Cluster-ID"); c.code != 404 && c.code != 405 && cluster != fmt.Sprintf("%x", s.member.ClusterID()) {
				t.Errorf("%s %s: of cluster %q", c.method, c.path, cluster)
			}
		}
		s.fake.young.Store(true) // what its log says of them is still to be applied
		w := httptest.NewRecorder()
		s.api.web.Peers().ServeHTTP(w, httptest.NewRequest("GET", "/members", nil))
		if w.Code != 503 || w.Header().Get(server.StartingHeader) != server.StartingData {
			t.Errorf("without members: %d %v %q", w.Code, w.Header(), w.Body)
		}
		s.stop() // nothing can be promoted any more
		w = httptest.NewRecorder()
		s.api.web.Peers().ServeHTTP(w, httptest.NewRequest("POST", "/members/promote/"+fmt.Sprint(self), nil))
		if w.Code != 500 || w.Body.String() != `{"message":"Internal Server Error"}` {
			t.Errorf("from a member that has stopped: %d %q", w.Code, w.Body)
		}
	})
}

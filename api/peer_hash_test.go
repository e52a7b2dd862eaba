package api

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/kv"
)

// TestPeerHashKV is the table of what a member hears that asks for the hash of the keys.
func TestPeerHashKV(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		s.put("k", "v")
		h, err := s.member.HashKV(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		s.put("k", "w")
		cluster := fmt.Sprintf("%x", s.member.ClusterID())
		at2 := fmt.Sprintf(`{"header":{"revision":3},"hash":%d,"compact_revision":-1,"hash_revision":2}`, h.Sum)
		for _, c := range []struct {
			method, cluster, body string
			status                int
			want                  string
		}{
			{"GET", cluster, `{"revision":2}`, 200, at2},
			{"GET", "", `{"revision":2}`, 200, at2},
			{"GET", "abc", `{"revision":2}`, 412, "cluster ID mismatch"},
			{"POST", cluster, `{"revision":2}`, 405, "Method Not Allowed"},
			{"HEAD", cluster, `{"revision":2}`, 405, "Method Not Allowed"},
			{"GET", cluster, `{`, 400, "error unmarshalling request"},
			{"GET", cluster, ``, 400, "error unmarshalling request"},
			{"GET", cluster, `{"revision":4}`, 400, "mvcc: required revision is a future revision"},
		} {
			check(t, s, c.method, c.cluster, c.body, c.status, c.want)
		}
		if _, err := s.member.Compact(t.Context(), kv.CompactRequest{Revision: 3, Physical: true}); err != nil {
			t.Fatal(err)
		}
		check(t, s, "GET", cluster, `{"revision":2}`, 400, "mvcc: required revision has been compacted")
	})
}

func check(t *testing.T, s *service, method, cluster, body string, status int, want string) {
	t.Helper()
	r := httptest.NewRequest(method, "/members/hashkv", strings.NewReader(body))
	r.Header.Set("X-Etcd-Cluster-ID", cluster)
	w := httptest.NewRecorder()
	s.api.web.Peers().ServeHTTP(w, r)
	if got := strings.TrimSpace(w.Body.String()); w.Code != status || got != want {
		t.Errorf("%s %s of %q: %d %q, want %d %q", method, body, cluster, w.Code, got, status, want)
	}
	if w.Code == 200 && w.Header().Get("X-Etcd-Cluster-ID") == "" {
		t.Error("the answer does not name the cluster")
	}
}

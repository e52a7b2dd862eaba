package api

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/api/web"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/metrics"
	"holdfast/server"
)

// askPeer asks a member as another member does.
func askPeer(e *web.Endpoints, method, path string, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.Peers().ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
	return w
}

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestPeerLeases renews a lease for another member and tells it what is left, as the leader does.
func TestPeerLeases(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		if _, err := s.member.LeaseGrant(t.Context(), kv.LeaseGrantRequest{ID: 7, TTL: 60}); err != nil {
			t.Fatal(err)
		}
		w := askPeer(s.api.web, "POST", "/leases", encode(t, &pb.LeaseKeepAliveRequest{ID: 7}))
		var renewed pb.LeaseKeepAliveResponse
		if err := proto.Unmarshal(w.Body.Bytes(), &renewed); w.Code != 200 || err != nil || renewed.ID != 7 || renewed.TTL != 60 {
			t.Errorf("%d: %v (%v)", w.Code, &renewed, err)
		}
		if kind := w.Header().Get("Content-Type"); kind != "application/protobuf" {
			t.Errorf("content type %q", kind)
		}
		w = askPeer(s.api.web, "POST", "/leases/internal", kv.AppendLeaseInternal(nil, encode(t, &pb.LeaseTimeToLiveRequest{ID: 7, Keys: true})))
		body, err := kv.DecodeLeaseInternal(w.Body.Bytes())
		var status pb.LeaseTimeToLiveResponse
		if err := errors.Join(err, proto.Unmarshal(body, &status)); w.Code != 200 || err != nil || status.ID != 7 || status.TTL != 60 || status.GrantedTTL != 60 {
			t.Errorf("%d: %v (%v)", w.Code, &status, err)
		}
	})
}

// failingLeases is a member that cannot tell about leases.
type failingLeases struct {
	*fakeMember
	err error
}

// LeaseRenewHere implements Member.
func (m failingLeases) LeaseRenewHere(context.Context, kv.LeaseID) (int64, error) { return 0, m.err }

// LeaseTimeToLiveHere implements Member.
func (m failingLeases) LeaseTimeToLiveHere(context.Context, kv.LeaseID, bool) (server.LeaseStatus, error) {
	return server.LeaseStatus{}, m.err
}

// TestPeerLeasesRefuse is the table of etcd's refusals.
func TestPeerLeasesRefuse(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		for _, c := range []struct {
			err          error
			method, body string
			renew, live  int // status of /leases and /leases/internal
			text         string
		}{
			{nil, "GET", "", 405, 405, "Method Not Allowed"},
			{nil, "POST", strings.Repeat("x", 64<<10+1), 413, 413, "request body too large"},
			{nil, "POST", "\x08", 400, 400, "error unmarshalling request"},
			{lease.ErrNotFound, "POST", "", 404, 404, "lease not found"},
			{server.ErrAppliedTimeout, "POST", "", 408, 408, "waiting for node to catch up its applied index has timed out"},
			{server.ErrTimeout, "POST", "", 408, 408, "waiting for node to catch up its applied index has timed out"},
			{server.ErrNotLeader, "POST", "", 400, 500, "not a primary lessor"},
			{server.ErrStopped, "POST", "", 400, 500, "server stopped"},
		} {
			e := web.New(web.Config{Member: failingLeases{s.fake, c.err}, Metrics: metrics.New(metrics.Config{})})
			for path, want := range map[string]int{"/leases": c.renew, "/leases/internal": c.live} {
				w := askPeer(e, c.method, path, []byte(c.body))
				if w.Code != want || strings.TrimSpace(w.Body.String()) != c.text {
					t.Errorf("%s %s with %v: %d %q, want %d %q", c.method, path, c.err, w.Code, w.Body, want, c.text)
				}
			}
		}
	})
}

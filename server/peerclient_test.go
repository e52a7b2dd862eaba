package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/test/etcd"
)

// peerServer answers like a member's peer listener and counts its connections.
func peerServer(t *testing.T, handle http.HandlerFunc) (base string, conns *atomic.Int64) {
	t.Helper()
	conns = new(atomic.Int64)
	s := httptest.NewUnstartedServer(handle)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, conns
}

func testPeerClient(t *testing.T, cfg peerClientConfig) *peerClient {
	c := newPeerClient(cfg)
	t.Cleanup(c.close)
	return c
}

// TestPeerClientCarriesBothWays: method, path, header and body arrive; status, header and body come back, also of a
// refusal; one connection serves all.
func TestPeerClientCarriesBothWays(t *testing.T) {
	base, conns := peerServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Said", r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Type")+" "+string(body))
		w.WriteHeader(http.StatusPreconditionFailed)
		_, _ = io.WriteString(w, "cluster ID mismatch\n")
	})
	c := testPeerClient(t, peerClientConfig{})
	for range 3 {
		answer, err := c.ask(t.Context(), []string{base + "/"}, peerRequest{
			method: http.MethodGet, path: "/members/hashkv?a=b", header: contentHeader(contentJSON), body: []byte(`{"revision":3}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		if answer.status != http.StatusPreconditionFailed || string(answer.body) != "cluster ID mismatch\n" {
			t.Errorf("answer %d %q", answer.status, answer.body)
		}
		if got, want := answer.header.Get("X-Said"), `GET /members/hashkv?a=b application/json {"revision":3}`; got != want {
			t.Errorf("arrived as %q, want %q", got, want)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for requests one after the other", n)
	}
}

// TestPeerClientTriesEachURL: URLs that do not answer are passed over, and the error names each where none does.
func TestPeerClientTriesEachURL(t *testing.T) {
	base, _ := peerServer(t, func(http.ResponseWriter, *http.Request) {})
	c, dead := testPeerClient(t, peerClientConfig{}), etcd.FreeURL(t)
	answer, err := c.ask(t.Context(), []string{dead, "unix://x", base}, peerRequest{method: http.MethodGet, path: "/version"})
	if err != nil || answer.url != base || answer.status != http.StatusOK {
		t.Errorf("answer %+v, %v", answer, err)
	}
	_, err = c.ask(t.Context(), []string{dead, "unix://x"}, peerRequest{method: http.MethodGet, path: "/version"})
	if err == nil || !strings.Contains(err.Error(), dead+"/version") || !strings.Contains(err.Error(), "unix://x") {
		t.Errorf("error %v", err)
	}
	if _, err := c.ask(t.Context(), nil, peerRequest{method: http.MethodGet}); err == nil {
		t.Error("a member without URLs was asked")
	}
}

// TestPeerClientFollowsNobody: a redirect is an answer like any other.
func TestPeerClientFollowsNobody(t *testing.T) {
	var requests atomic.Int64
	base, _ := peerServer(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	answer, err := testPeerClient(t, peerClientConfig{}).ask(t.Context(), []string{base}, peerRequest{method: http.MethodPost, path: "/leases"})
	if err != nil || answer.status != http.StatusTemporaryRedirect || requests.Load() != 1 {
		t.Errorf("answer %+v, %v after %d requests", answer, err, requests.Load())
	}
}

// TestPeerClientBoundsAnswers: an answer of the bound is read, one byte more is an error.
func TestPeerClientBoundsAnswers(t *testing.T) {
	base, _ := peerServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 100)) })
	c := testPeerClient(t, peerClientConfig{})
	answer, err := c.ask(t.Context(), []string{base}, peerRequest{method: http.MethodGet, answerMax: 100})
	if err != nil || len(answer.body) != 100 {
		t.Errorf("answer %+v, %v", answer, err)
	}
	if _, err = c.ask(t.Context(), []string{base}, peerRequest{method: http.MethodGet, answerMax: 99}); !errors.Is(err, errPeerAnswerTooLarge) {
		t.Errorf("a byte too much: %v", err)
	}
}

// TestPeerClientKeepsTheDeadline: a member that accepts and says nothing holds the caller up to its deadline, and the URLs
// behind it are not asked any more.
func TestPeerClientKeepsTheDeadline(t *testing.T) {
	let := make(chan struct{})
	silent, _ := peerServer(t, func(http.ResponseWriter, *http.Request) { <-let })
	defer close(let)
	var asked atomic.Bool
	next, _ := peerServer(t, func(http.ResponseWriter, *http.Request) { asked.Store(true) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := testPeerClient(t, peerClientConfig{}).ask(ctx, []string{silent, next}, peerRequest{method: http.MethodGet})
	if !errors.Is(err, context.DeadlineExceeded) || asked.Load() {
		t.Errorf("%v; next one asked: %v", err, asked.Load())
	}
}

// TestPeerClientBoundsTheDial: an address that answers nothing costs the time of a dial, then the next one is tried.
func TestPeerClientBoundsTheDial(t *testing.T) {
	base, _ := peerServer(t, func(http.ResponseWriter, *http.Request) {})
	black := "http://black.hole:2380"
	c := testPeerClient(t, peerClientConfig{
		DialTimeout: 10 * time.Millisecond,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "black.hole:2380" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	})
	answer, err := c.ask(t.Context(), []string{black, base}, peerRequest{method: http.MethodGet})
	if err != nil || answer.url != base {
		t.Errorf("answer %+v, %v", answer, err)
	}
}

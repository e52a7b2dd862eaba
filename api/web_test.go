package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gorilla/websocket"
)

// browser is an HTTP client of a service with a JSON gateway.
type browser struct {
	*service
	client *http.Client
}

// inWebBubble runs a test with a service and an HTTP client, in a bubble (see inBubble).
func inWebBubble(t *testing.T, change func(*Config), test func(t *testing.T, w *browser)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Gateway = true
		if change != nil {
			change(&cfg)
		}
		s := serve(t, testServerConfig(), cfg)
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.door.DialContext(ctx) }}
		t.Cleanup(transport.CloseIdleConnections)
		test(t, &browser{service: s, client: &http.Client{Transport: transport}})
	})
}

// send sends a request whose body is written piece by piece.
func (w *browser) send(method, path string, body io.Reader, head http.Header) *http.Response {
	w.t.Helper()
	q, err := http.NewRequestWithContext(w.t.Context(), method, "http://member"+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, values := range head {
		q.Header[name] = values
	}
	if host := head.Get("Host"); host != "" {
		q.Host = host
	}
	r, err := w.client.Do(q)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { r.Body.Close() })
	return r
}

// post calls a path and returns the code and the answer.
func (w *browser) post(path, body string) (int, map[string]any) {
	w.t.Helper()
	r := w.send("POST", path, strings.NewReader(body), nil)
	var answer map[string]any
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		w.t.Fatalf("%s %s: %v", path, body, err)
	}
	return r.StatusCode, answer
}

// TestGateway: calls, their answers and their errors in JSON.
func TestGateway(t *testing.T) {
	inWebBubble(t, nil, func(t *testing.T, w *browser) {
		header := `"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","raft_term":"2",`
		for _, c := range []struct {
			path, body string
			code       int
			want       string
		}{
			{"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`, 200, `{` + header + `"revision":"2"}}`},
			{"/v3beta/kv/range", `{"key":"Zm9v","nobody_knows":1}`, 200, `{` + header + `"revision":"2"},"count":"1",` +
				`"kvs":[{"key":"Zm9v","value":"YmFy","create_revision":"2","mod_revision":"2","version":"1"}]}`},
			{"/v3/kv/put", `{}`, 400, `{"code":3,"message":"etcdserver: key is not provided"}`},
			{"/v3/kv/range", `{"key":"Zm9v","revision":"99"}`, 400, `{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}`},
			{"/v3/lease/revoke", `{"ID":"7"}`, 404, `{"code":5,"message":"etcdserver: requested lease not found"}`},
			{"/v3/kv/lease/leases", `{}`, 200, `{` + header + `"revision":"2"}}`},
			{"/v3/kv/nothing", `{}`, 404, `{"code":5,"message":"Not Found"}`},
			{"/v3/kv/put", `{"key":"Zm9v","value":"` + strings.Repeat("YmFy", 500_000) + `"}`, 400, `{"code":3,"message":"etcdserver: request is too large"}`},
			{"/v3/kv/put", strings.Repeat(" ", 4<<20) + `{}`, 429, `{"code":8,"message":"holdfast: the JSON request is longer than any that could be accepted"}`},
		} {
			code, answer := w.post(c.path, c.body)
			got, err := json.Marshal(answer)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if again, _ := json.Marshal(want); code != c.code || string(got) != string(again) {
				t.Errorf("%s %.80s: %d %s\nwant %d %s", c.path, c.body, code, got, c.code, again)
			}
		}
		if r := w.send("GET", "/v3/kv/put", nil, nil); r.StatusCode != http.StatusNotImplemented {
			t.Errorf("GET of a call: %s", r.Status)
		}
	})
}

// TestGatewayWatch: answers come while the request is still being sent, over HTTP and over a WebSocket, and the end of the service
// ends both.
func TestGatewayWatch(t *testing.T) {
	inWebBubble(t, nil, func(t *testing.T, w *browser) {
		body, request := io.Pipe()
		go io.WriteString(request, `{"create_request":{"key":"Zm9v"}}`)
		plain := bufio.NewReader(w.send("POST", "/v3/watch", body, nil).Body)

		dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.door.DialContext(ctx) }}
		socket, _, err := dialer.Dial("ws://member/v3/watch", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		if err := socket.WriteMessage(websocket.TextMessage, []byte(`{"create_request":{"key":"Zm9v"}}`)); err != nil {
			t.Fatal(err)
		}
		expect := func(what string) {
			t.Helper()
			line, err := plain.ReadString('\n')
			if err != nil || !strings.Contains(line, what) {
				t.Errorf("HTTP: %q, %v, want %s", line, err, what)
			}
			_, message, err := socket.ReadMessage()
			if err != nil || !strings.Contains(string(message), what) || strings.Contains(string(message), "\n") {
				t.Errorf("WebSocket: %q, %v, want %s", message, err, what)
			}
		}
		expect(`"created":true`)
		w.put("foo", "bar")
		expect(`"value":"YmFy"`)
		go io.WriteString(request, `{"progress_request":{}}`)
		if err := socket.WriteMessage(websocket.TextMessage, []byte(`{"progress_request":{}}`)); err != nil {
			t.Fatal(err)
		}
		expect(`"revision":"2"`)
		w.stop()
		if rest, err := io.ReadAll(plain); err != nil {
			t.Errorf("after the end: %q, %v", rest, err)
		}
		for err = nil; err == nil; _, _, err = socket.ReadMessage() {
		}
		if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("the WebSocket ended by %v", err)
		}
		request.Close()
	})
}

// TestGatewayTimeout: a client that does not send the rest of its message does not keep its place for ever.
func TestGatewayTimeout(t *testing.T) {
	inWebBubble(t, nil, func(t *testing.T, w *browser) {
		body, request := io.Pipe()
		defer request.Close()
		go io.WriteString(request, `{"key":`)
		r := w.send("POST", "/v3/kv/range", body, nil) // the clock of the bubble runs when all wait
		if r.StatusCode != http.StatusBadRequest {
			t.Errorf("half a message: %s", r.Status)
		}
	})
}

// TestAccess: who may call, and which pages may read the answers.
func TestAccess(t *testing.T) {
	restrict := func(c *Config) { c.Hosts, c.Origins = []string{"member", "::1"}, []string{"https://ours.example"} }
	inWebBubble(t, restrict, func(t *testing.T, w *browser) {
		for _, c := range []struct {
			method, host, origin string
			code                 int
			allowed              string
		}{
			{"GET", "member", "", 200, ""},
			{"GET", "member:2379", "https://ours.example", 200, "https://ours.example"},
			{"GET", "member:2379", "https://theirs.example", 200, ""},
			{"GET", "[::1]:2379", "", 200, ""},
			{"GET", "evil.example", "https://ours.example", 421, ""},
			{"GET", "evil.example:2379", "", 421, ""},
			{"OPTIONS", "member", "https://ours.example", 200, "https://ours.example"},
		} {
			r := w.send(c.method, "/version", nil, http.Header{"Host": {c.host}, "Origin": {c.origin}})
			text, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != c.code || r.Header.Get("Access-Control-Allow-Origin") != c.allowed {
				t.Errorf("%+v: %s, allowed %q", c, r.Status, r.Header.Get("Access-Control-Allow-Origin"))
			}
			if c.code == 421 && !strings.Contains(string(text), "etcd --host-whitelist \"evil.example\"\n") {
				t.Errorf("%+v: %s", c, text)
			}
			if c.method == "OPTIONS" && (len(text) > 0 || r.Header.Get("Access-Control-Allow-Headers") != "accept, content-type, authorization") {
				t.Errorf("%+v: %q, %v", c, text, r.Header)
			}
		}
		dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.door.DialContext(ctx) }}
		for origin, code := range map[string]int{"https://ours.example": 101, "http://member": 101, "https://theirs.example": 403} {
			socket, r, err := dialer.Dial("ws://member/v3/watch", http.Header{"Origin": {origin}})
			if r == nil || r.StatusCode != code {
				t.Errorf("WebSocket of %s: %v, %v", origin, r, err)
			}
			if err == nil {
				socket.Close()
			}
		}
	})
}

// TestDebug: what those who debug can see and change.
func TestDebug(t *testing.T) {
	level := ""
	change := func(c *Config) {
		c.CommandLine = []string{"holdfast", "--discovery-password=***"}
		c.SetLogLevel = func(l string) error {
			if l == "loud" {
				return errors.New("no such level")
			}
			level = l
			return nil
		}
		c.Log = slog.New(slog.DiscardHandler)
	}
	inWebBubble(t, change, func(t *testing.T, w *browser) {
		var vars struct {
			Cmdline []string
			Limit   uint64 `json:"file_descriptor_limit"`
			Memory  struct{ HeapAlloc uint64 }
			Raft    struct {
				ID    string
				State string `json:"raftState"`
			} `json:"raft.status"`
		}
		r := w.send("GET", "/debug/vars", nil, nil)
		if err := json.NewDecoder(r.Body).Decode(&vars); err != nil {
			t.Fatal(err)
		}
		if strings.Join(vars.Cmdline, " ") != "holdfast --discovery-password=***" || vars.Limit == 0 || vars.Raft.ID != "8e9e05c52164694d" || vars.Raft.State != "StateLeader" {
			t.Errorf("vars %+v", vars)
		}
		if r := w.send("GET", "/debug/pprof/", nil, nil); r.StatusCode != 404 {
			t.Errorf("profiles without being asked for: %s", r.Status)
		}
		for _, c := range []struct {
			method, body string
			code         int
			want, level  string
		}{
			{"PUT", `{"Level":"DEBUG"}`, 204, "", "debug"},
			{"PUT", `{"Level":"loud"}`, 400, `{"message":"Invalid log level loud"}`, "debug"},
			{"PUT", `{}`, 400, `{"message":"Invalid log level "}`, "debug"},
			{"PUT", `{"Level`, 400, `{"message":"Invalid json body"}`, "debug"},
			{"PUT", strings.Repeat(" ", 1<<20) + `{"Level":"info"}`, 400, `{"message":"Invalid json body"}`, "debug"},
			{"GET", ``, 405, "Method Not Allowed\n", "debug"},
			{"PUT", `{"level":"warn"}`, 204, "", "warn"},
		} {
			r := w.send(c.method, "/config/local/log", strings.NewReader(c.body), nil)
			text, err := io.ReadAll(r.Body)
			if err != nil || r.StatusCode != c.code || string(text) != c.want || level != c.level {
				t.Errorf("%s %.20s: %s %q, level %q, %v", c.method, c.body, r.Status, text, level, err)
			}
		}
	})
}

// TestAuthOverHTTP: with authentication on a token opens the API, health asks nobody, and what would be taken for somebody's is refused.
func TestAuthOverHTTP(t *testing.T) {
	allowLevels := func(c *Config) { c.SetLogLevel = func(string) error { return nil } }
	inWebBubble(t, allowLevels, func(t *testing.T, w *browser) {
		for _, c := range [][2]string{
			{"/v3/auth/user/add", `{"name":"root","password":"secret"}`}, {"/v3/auth/role/add", `{"name":"root"}`},
			{"/v3/auth/user/grant", `{"user":"root","role":"root"}`}, {"/v3/auth/enable", `{}`},
		} {
			if code, answer := w.post(c[0], c[1]); code != 200 {
				t.Fatalf("%s: %d %v", c[0], code, answer)
			}
		}
		if code, answer := w.post("/v3/kv/range", `{"key":"Zm9v"}`); code != 400 || answer["message"] != "etcdserver: user name is empty" {
			t.Errorf("a range by nobody: %d %v", code, answer)
		}
		_, answer := w.post("/v3/auth/authenticate", `{"name":"root","password":"secret"}`)
		token, _ := answer["token"].(string)
		for _, head := range []string{token, "Bearer " + token} {
			if r := w.send("POST", "/v3/kv/range", strings.NewReader(`{"key":"Zm9v"}`), http.Header{"Authorization": {head}}); r.StatusCode != 200 {
				t.Errorf("a range with a token: %s", r.Status)
			}
		}
		for path, code := range map[string]int{"/health": 200, "/livez": 200, "/readyz": 200, "/version": 200} {
			if r := w.send("GET", path, nil, nil); r.StatusCode != code {
				t.Errorf("%s: %s", path, r.Status)
			}
		}
		if r := w.send("PUT", "/config/local/log", strings.NewReader(`{"Level":"debug"}`), nil); r.StatusCode != 403 {
			t.Errorf("the log level, by nobody: %s", r.Status)
		}
		dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.door.DialContext(ctx) }}
		for name, head := range map[string]http.Header{"protocol": {"Sec-Websocket-Protocol": {"Bearer, " + token}}, "cookie": {"Cookie": {"token=" + token}}} {
			socket, _, err := dialer.Dial("ws://member/v3/watch", head)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := socket.WriteMessage(websocket.TextMessage, []byte(`{"create_request":{"key":"Zm9v"}}`)); err != nil {
				t.Fatal(err)
			}
			if _, message, err := socket.ReadMessage(); err != nil || strings.Contains(string(message), "cancel") {
				t.Errorf("%s: %s, %v", name, message, err)
			}
			socket.Close()
		}
		// The certificate's name would be a user's in gRPC. Here it is nobody's, and the client must not think otherwise.
		certificate := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "root"}}}}}
		for path, code := range map[string]int{"/v3/kv/range": 400, "/health": 200} {
			q, answer := httptest.NewRequest("GET", path, nil), httptest.NewRecorder()
			q.TLS = certificate
			w.api.handler(http.NotFoundHandler()).ServeHTTP(answer, q)
			if answer.Code != code {
				t.Errorf("%s with a certificate: %d %s", path, answer.Code, answer.Body)
			}
		}
	})
}

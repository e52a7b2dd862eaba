package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http/httptest"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"holdfast/api/gateway"
	"holdfast/api/port"
)

// call is what a gRPC client sends for one call: the preface, its settings, a head in plain literals and one message.
func call(path string, message []byte) []byte {
	frame := func(kind, flags byte, stream uint32, body []byte) []byte {
		head := []byte{byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), kind, flags}
		return append(binary.BigEndian.AppendUint32(head, stream), body...)
	}
	var head []byte
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		head = append(head, 0, byte(len(field[0])))
		head = append(append(append(head, field[0]...), byte(len(field[1]))), field[1]...)
	}
	out := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	out = append(out, frame(4, 0, 0, nil)...)
	out = append(out, frame(1, 4, 1, head)...)
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(out, frame(0, 1, 1, append(body, message...))...)
}

// FuzzPort sends a stranger's bytes to the port that speaks both protocols. Nothing may panic, and every connection and
// all that served it must be gone soon after its client.
func FuzzPort(f *testing.F) {
	for _, seed := range [][]byte{
		nil, []byte("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
		[]byte("POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"),
		[]byte("POST /v3/watch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n21\r\n{\"create_request\":{\"key\":\"Zm9v\"}}\r\n"),
		[]byte("GET /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\n\r\n\x81\x82\x00\x00\x00\x00{}"),
		[]byte("PUT /config/local/log HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"Level\":\"info\"}"), []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		[]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"),
		call("/etcdserverpb.KV/Put", []byte{0x0a, 1, 'k', 0x12, 1, 'v'}), call("/etcdserverpb.KV/Range", []byte{0x0a, 1, 'k'}),
		call("/etcdserverpb.KV/Txn", []byte{0x12, 5, 0x12, 3, 0x0a, 1, 'k'}), call("/etcdserverpb.KV/RangeStream", []byte{0x0a, 1, 'k'}),
		call("/etcdserverpb.Lease/LeaseKeepAlive", []byte{0x08, 7}), call("/nothing", nil), call("", []byte("x")),
		call("/etcdserverpb.Watch/Watch", []byte{0x0a, 3, 0x0a, 1, 'k'}), call("/etcdserverpb.Lease/LeaseGrant", []byte{0x08, 7}),
		call("/etcdserverpb.Maintenance/Snapshot", nil), call("/etcdserverpb.Maintenance/Status", nil),
		call("/grpc.health.v1.Health/Check", nil),
	} {
		f.Add(seed)
	}
	cfg := testConfig()
	cfg.Gateway = true
	s := serve(f, testServerConfig(), cfg)
	before := runtime.NumGoroutine()
	f.Fuzz(func(t *testing.T, data []byte) { strangers(t, s.door, data, before) })
}

// goroutinesMore is how many goroutines may be there beside those that were when nobody had asked anything: the member's own
// come and go.
const goroutinesMore = 40

// strangers sends bytes to a port and leaves. What served them must be gone soon after.
func strangers(t *testing.T, door *bufconn.Listener, data []byte, before int) {
	c, err := door.Dial()
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, c) // ends with c
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write(data) // may fail: a port that has heard enough closes
	c.Close()
	for i := 0; runtime.NumGoroutine() > before+goroutinesMore; i++ {
		if i > 5000 { // net/http lingers half a second on what it has refused
			var stacks bytes.Buffer
			if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
				t.Error(err)
			}
			t.Fatalf("%d goroutines serve clients that have gone:\n%s", runtime.NumGoroutine()-before, &stacks)
		}
		time.Sleep(time.Millisecond)
	}
}

// FuzzConstantPorts sends a stranger's bytes to the ports for members and for metrics. One who knows the id of the cluster and of the
// member is no stranger: raft believes what it is told.
func FuzzConstantPorts(f *testing.F) {
	const cluster = "X-Etcd-Cluster-ID: cdf818194e3a8c32\r\n"
	for _, seed := range []string{
		"", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET /readyz?verbose&exclude=%zz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /health HTTP/1.0\r\n\r\n",
		"GET /members HTTP/1.1\r\nHost: x\r\n" + cluster + "\r\n", "GET /version HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /members/promote/18446744073709551616 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"GET /members/hashkv HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"revision\":1}",
		"POST /leases HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\x08\x07", "POST /leases/internal HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\x0a\x02\x08\x07",
		"POST /leases HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\nx", "GET /downgrade/enabled HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /raft HTTP/1.1\r\nHost: x\r\n" + cluster + "X-Server-From: 1\r\nX-Server-Version: 3.7.0\r\nContent-Length: 3\r\n\r\n\x08\xff\xff",
		"GET /raft/stream/msgapp/1 HTTP/1.1\r\nHost: x\r\n" + cluster + "X-Raft-To: 8e9e05c52164694d\r\n\r\n", "GET /raft/stream/message/x HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /raft/snapshot HTTP/1.1\r\nHost: x\r\n" + cluster + "Content-Length: 8\r\n\r\n\x00\x00\x00\x00\xff\xff\xff\xff", "GET /raft/probing HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /raft/checkpoint HTTP/1.1\r\nHost: x\r\n" + cluster + "Content-Length: 8\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		f.Add([]byte(seed))
	}
	s := serve(f, testServerConfig(), testConfig())
	peers, metrics := bufconn.Listen(64<<10), bufconn.Listen(64<<10)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- s.api.RunConstant(ctx, Constant{Peers: []port.Door{{Listener: peers}}, Metrics: []port.Door{{Listener: metrics}}})
	}()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	before := runtime.NumGoroutine()
	f.Fuzz(func(t *testing.T, data []byte) {
		strangers(t, peers, data, before)
		strangers(t, metrics, data, before)
	})
}

// FuzzGateway sends any body to any path of the gateway: every answer is one that clients know, and what a body held is given back.
func FuzzGateway(f *testing.F) {
	for _, seed := range [][2]string{
		{"kv/put", `{"key":"Zm9v","value":"YmFy","lease":"7"}`}, {"kv/range", `{"key":"AA==","range_end":"AA==","sort_order":2}`}, {"kv/range", `{"key":null}`},
		{"kv/txn", `{"compare":[{"key":"Zm9v"}],"success":[{"request_txn":{"success":[{"request_put":{"key":"YQ=="}}]}}]}`}, {"kv/deleterange", `{"key":"Zm9v"} x`},
		{"watch", `{"create_request":{"key":"Zm9v"}}{"cancel_request":{"watch_id":"0"}}`}, {"lease/keepalive", `{"ID":7}{"ID":"8"}`}, {"lease/grant", `{"TTL":1e3}`},
		{"maintenance/alarm", `{"action":"ACTIVATE","alarm":"NOSPACE"}`}, {"maintenance/snapshot", `{}`}, {"auth/authenticate", `{"name":"root"}`},
		{"cluster/member/add", `{"peerURLs":["http://h:1"]}`}, {"lock/lock", `{"name":"bA=="}`}, {"election/observe", `{"name":"bA=="}`}, {"../health", `[`}, {"", `{`},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	s := serve(f, testServerConfig(), testConfig())
	g, err := gateway.New(gateway.Config{MessageBytesMax: 1 << 20, Range: s.api.rangeInProcess})
	if err != nil {
		f.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- port.ServeGRPC(s.api.grpc, g.Calls()) }()
	f.Cleanup(func() {
		s.stop()
		if err := errors.Join(<-served, g.Close()); err != nil {
			f.Error(err)
		}
	})
	handler := s.api.handler(g)
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // for what does not end by itself
		defer cancel()
		q := httptest.NewRequestWithContext(ctx, "POST", "/v3/", bytes.NewReader(body))
		q.URL.Path = "/v3/" + path
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, q)
		switch w.Code {
		case 200, 301, 307, 400, 401, 403, 404, 405, 408, 409, 429, 499, 500, 501, 503, 504:
		default:
			t.Errorf("%q %q: %d %s", path, body, w.Code, w.Body)
		}
		if held := g.Held(); held != 0 {
			t.Errorf("%q %q: %d bytes of bodies are held", path, body, held)
		}
	})
}

// FuzzMetadata lets a client say anything beside its call: it is refused in etcd's words or served.
func FuzzMetadata(f *testing.F) {
	f.Add(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader, "3.5")
	f.Add(rpctypes.MetadataClientAPIVersionKey, "\xff", "")
	f.Add("token", strings.Repeat("x", 1000), "\x00")
	a := serve(f, testServerConfig(), testConfig()).api
	f.Fuzz(func(t *testing.T, key, value, version string) {
		md := metadata.Pairs(key, value, rpctypes.MetadataClientAPIVersionKey, version)
		ctx := metadata.NewIncomingContext(context.Background(), md)
		ran := false
		_, err := a.unaryCall(ctx, nil, nil, func(context.Context, any) (any, error) {
			ran = true
			return nil, nil
		})
		valid := utf8.ValidString(md.Get(rpctypes.MetadataClientAPIVersionKey)[0])
		if ran != (err == nil) || ran != valid {
			t.Errorf("%v: served %t with error %v", md, ran, err)
		}
	})
}

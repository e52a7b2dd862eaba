package security

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/run"
)

// An attack is what a stranger sends on a connection: what begins it, and what is repeated without end. Whether it is refused, and when,
// is the member's business; the stranger connects again.
type attack struct {
	name        string
	peer        bool // at the port for members
	begin, more string
}

// frame is one of HTTP/2.
func frame(kind, flags byte, stream uint32, body string) string {
	head := []byte{byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), kind, flags}
	return string(binary.BigEndian.AppendUint32(head, stream)) + body
}

// The frames of HTTP/2 that are used, and the flags.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameContinuation = 0, 1, 3, 4, 6, 9
	endHeaders                                                                       = 4
)

// field is a header in the plainest form of HPACK.
func field(name, value string) string {
	length := func(n int) string { // of up to 253 bytes
		if n < 127 {
			return string([]byte{byte(n)})
		}
		return string([]byte{127, byte(n - 127)})
	}
	return "\x00" + length(len(name)) + name + length(len(value)) + value
}

func callHead(path string) string {
	return field(":method", "POST") + field(":scheme", "http") + field(":path", path) + field(":authority", "x") +
		field("content-type", "application/grpc") + field("te", "trailers")
}

// attacks is what is tried, all at once.
func attacks() []attack {
	const chunk = 4 << 10
	a, preface := strings.Repeat("A", chunk), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+frame(frameSettings, 0, 0, "")
	http := func(line, more string) string { return line + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n" }
	endless := "Content-Length: 9000000000000\r\n"
	chunked := "Transfer-Encoding: chunked\r\n"
	list := []attack{
		{name: "a text in JSON without end", begin: http("POST /v3/kv/put", endless) + `{"key":"`, more: a},
		{name: "a text in chunks without end", begin: http("POST /v3/kv/put", chunked) + "8\r\n" + `{"key":"` + "\r\n", more: "1000\r\n" + a + "\r\n"},
		{name: "brackets without end", begin: http("POST /v3/kv/txn", endless), more: strings.Repeat("[", chunk)},
		{name: "blanks without end", begin: http("POST /v3/kv/range", endless), more: strings.Repeat(" ", chunk)},
		{name: "what follows without end", begin: http("POST /v3/kv/range", endless) + `{"key":"AA=="}`, more: a},
		{name: "a watch without end", begin: http("POST /v3/watch", endless) + `{"create_request":{"key":"`, more: a},
		{name: "watches without end", begin: http("POST /v3/lease/keepalive", endless), more: strings.Repeat(`{"ID":"7"}`, 100)},
		{name: "a form without end", begin: http("POST /v3/kv/range", endless+"Content-Type: application/x-www-form-urlencoded\r\nX-HTTP-Method-Override: GET\r\n"), more: a},
		{name: "a WebSocket message without end", begin: http("GET /v3/watch", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\n") + "\x81\xff\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00\x00" + `{"create_request":{"key":"`, more: a},
		{name: "a log level without end", begin: http("PUT /config/local/log", endless), more: a},
		{name: "a request line without end", begin: "GET /", more: a},
		{name: "a header without end", begin: "GET /health HTTP/1.1\r\nX: ", more: a},
		{name: "headers without end", begin: "GET /health HTTP/1.1\r\n", more: strings.Repeat("X: y\r\n", 600)},
		{name: "trailers without end", begin: http("POST /health", chunked) + "0\r\n", more: strings.Repeat("X: y\r\n", 600)},
		{name: "an extension of a chunk without end", begin: http("POST /v3/kv/put", chunked) + "1;", more: a},
		{name: "requests whose answers nobody reads", more: strings.Repeat(http("GET /metrics", ""), 20)},

		{name: "a gRPC head without end", begin: preface + frame(frameHeaders, 0, 1, callHead("/etcdserverpb.KV/Put")), more: frame(frameContinuation, 0, 1, field("x", a[:200]))},
		{name: "empty parts of a gRPC head", begin: preface + frame(frameHeaders, 0, 1, callHead("/etcdserverpb.KV/Put")), more: strings.Repeat(frame(frameContinuation, 0, 1, ""), 100)},
		{name: "pings without end", begin: preface, more: strings.Repeat(frame(framePing, 0, 0, "12345678"), 100)},
		{name: "settings without end", begin: preface, more: strings.Repeat(frame(frameSettings, 0, 0, ""), 100)},
		{name: "a message of 4 GiB", begin: preface + frame(frameHeaders, endHeaders, 1, callHead("/etcdserverpb.KV/Put")) + frame(frameData, 0, 1, "\x00\xff\xff\xff\xff"),
			more: frame(frameData, 0, 1, a)},
		{name: "another name for gRPC", begin: "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", more: a},
		{name: "calls begun and broken off", begin: preface, more: resets()},
		{name: "noise", more: "\x16\x03\x01\x00\xff\x00" + a},
	}
	for _, path := range []string{"POST /raft", "POST /raft/snapshot", "POST /raft/checkpoint", "POST /leases", "POST /leases/internal", "GET /members/hashkv", "GET /nothing"} {
		list = append(list, attack{name: path + " without end", peer: true, begin: http(path, endless), more: a})
	}
	return append(list, attack{name: "a header without end, to a member", peer: true, begin: "GET /version HTTP/1.1\r\nX: ", more: a})
}

// resets are calls that are broken off as soon as they have begun, on ever new streams.
func resets() string {
	var b strings.Builder
	for stream := uint32(1); stream < 20000; stream += 2 {
		b.WriteString(frame(frameHeaders, endHeaders, stream, callHead("/etcdserverpb.KV/Range")))
		b.WriteString(frame(frameReset, 0, stream, "\x00\x00\x00\x08"))
	}
	return b.String()
}

// try makes the attack once: until the member ends the connection, or ctx ends.
func (a attack) try(ctx context.Context, address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if !strings.Contains(a.name, "nobody reads") {
		go io.Copy(io.Discard, c) // ends with c
	}
	if _, err := io.WriteString(c, a.begin); err != nil {
		return
	}
	for {
		if _, err := io.WriteString(c, a.more); err != nil {
			return
		}
	}
}

// strangers is how many make each attack at a time, and attackedFor how long.
const (
	strangersShort, attackedShort = 6, 6 * time.Second
	strangersLong, attackedLong   = 16, 60 * time.Second
)

// memoryLimit is what the member is told that it may take, in bytes, and memoryFlag how.
const (
	memoryLimit = 512 << 20
	memoryFlag  = "--memory-limit=512MiB"
)

// Hoarders send most of a message in JSON and then nothing more. The member must not keep all of that.
const (
	hoarders   = 200
	hoardBytes = 3 << 20
)

// hoard lets all of them come and returns when each has sent what it had, or was refused. They stay until ctx ends.
func hoard(ctx context.Context, address string) (refused int) {
	var all sync.WaitGroup
	var mu sync.Mutex // guards refused
	for range hoarders {
		all.Go(func() {
			c, err := net.Dial("tcp", address)
			if err == nil {
				context.AfterFunc(ctx, func() { c.Close() })
				_, err = io.WriteString(c, "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n{\"key\":\""+strings.Repeat("A", hoardBytes))
			}
			if err != nil {
				mu.Lock()
				refused++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return refused
}

// TestBadInput: whatever strangers send to any port, and however long, the member takes no more memory than its limit, goes on serving those
// who write meanwhile, and is well afterwards.
func TestBadInput(t *testing.T) {
	server, err := run.Start(t.Context(), run.Config{Binary: run.Holdfast(t), Dir: t.TempDir(), Args: []string{"--log-level=error", memoryFlag}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	p := &party{t: t, Server: server}
	conn, err := p.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := put(t.Context(), conn, "k"); err != nil {
		t.Fatal(err)
	}
	rest := p.anonymous()
	strangers, during := strangersShort, attackedShort
	if *long {
		strangers, during = strangersLong, attackedLong
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := hoard(ctx, server.Client)
	most, writes := p.anonymous(), 0
	t.Logf("%d hoarders have sent %d MB each or were refused, which %d have noticed", hoarders, hoardBytes>>20, refused)
	time.AfterFunc(during, cancel)
	var all sync.WaitGroup
	for _, a := range attacks() {
		address := server.Client
		if a.peer {
			address = server.Peer
		}
		for range strangers {
			all.Go(func() {
				for ctx.Err() == nil {
					a.try(ctx, address)
					time.Sleep(time.Millisecond)
				}
			})
		}
	}
	for ctx.Err() == nil {
		if err := put(t.Context(), conn, "k"+strconv.Itoa(writes)); err != nil {
			t.Fatalf("a write fails: %v\n%s", err, p.LogTail(10))
		}
		writes++
		most = max(most, p.anonymous())
	}
	all.Wait()
	t.Logf("%d attacks by %d each for %s: %d MB at rest, %d MB at most, %d writes meanwhile", len(attacks()), strangers, during, rest>>20, most>>20, writes)
	if most > memoryLimit {
		t.Errorf("%d MB were taken, the limit is %d MB", most>>20, memoryLimit>>20)
	}
	r, err := http.Get("http://" + server.Client + "/readyz?verbose")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s %s %v", r.Status, text, err)
	}
}

// anonymous is the memory that the member takes and no file backs, in bytes.
func (p *party) anonymous() int64 {
	p.t.Helper()
	var kilobytes int64
	if _, err := fmt.Sscanf(p.memory(), "anonymous memory %d kB", &kilobytes); err != nil {
		p.t.Fatal(err)
	}
	return kilobytes << 10
}

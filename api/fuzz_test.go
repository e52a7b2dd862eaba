package api

import (
	"context"
	"encoding/binary"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
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
		[]byte("POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"), []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
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
	s := serve(f, testServerConfig(), testConfig())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := s.door.Dial()
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, c) // ends with c
		c.SetWriteDeadline(time.Now().Add(time.Second))
		c.Write(data) // may fail: a port that has heard enough closes
		c.Close()
		for i := 0; runtime.NumGoroutine() > 300; i++ {
			if i > 1000 {
				t.Fatalf("%d goroutines serve clients that have gone", runtime.NumGoroutine())
			}
			time.Sleep(time.Millisecond)
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

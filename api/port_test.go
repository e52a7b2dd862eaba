package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"holdfast/api/port"
)

// knock opens a connection to the port that speaks both protocols.
func (s *service) knock() net.Conn {
	s.t.Helper()
	c, err := s.door.Dial()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// ask makes one HTTP/1 request on c.
func ask(t *testing.T, c net.Conn, path string) string {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// doorClient is a gRPC client of the port that speaks both protocols.
func (s *service) doorClient() pb.KVClient {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///door", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.door.DialContext(ctx) }))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return pb.NewKVClient(conn)
}

// TestOnePort speaks HTTP/1 and gRPC on one port, in turns and several times on one connection.
func TestOnePort(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		kv, web := s.doorClient(), s.knock()
		for range 3 {
			if _, err := kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k")}); err != nil {
				t.Fatal(err)
			}
			if got := ask(t, web, "/health"); got != `{"health":"true","reason":""}` {
				t.Errorf("health %s", got)
			}
		}
		slow := s.knock() // its bytes come one by one
		for _, c := range "GET /version HTTP/1.1\r\nHost: x\r" {
			if _, err := io.WriteString(slow, string(c)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := ask(t, slowEnd{slow}, ""); !strings.Contains(got, "etcdserver") {
			t.Errorf("version %s", got)
		}
	})
}

// slowEnd ends a request that has been sent but for its last line break, instead of beginning one.
type slowEnd struct{ net.Conn }

// Write implements net.Conn.
func (s slowEnd) Write(p []byte) (int, error) {
	_, err := io.WriteString(s.Conn, "\n\r\n")
	return len(p), err
}

// TestManyIdleConnections opens hundreds of connections of every kind that stay quiet: calls are served beside them, and
// the member stops without waiting for them.
func TestManyIdleConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		for i := range 600 {
			c := s.knock()
			switch i % 3 {
			case 1:
				if _, err := io.WriteString(c, "PR"); err != nil {
					t.Fatal(err)
				}
			case 2:
				if got := ask(t, c, "/version"); !strings.Contains(got, "3.7") {
					t.Fatal(got)
				}
			}
		}
		if _, err := s.doorClient().Put(t.Context(), &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Error(err)
		}
		began := time.Now()
		s.stop()
		if took := time.Since(began); took > 2*port.StopTimeout {
			t.Errorf("stopping took %v", took)
		}
	})
}

// TestHeadersAreBounded: headers of half the bound are read, and those of twice the bound end in an error, in both protocols.
func TestHeadersAreBounded(t *testing.T) {
	inWebBubble(t, nil, func(t *testing.T, w *browser) {
		kv := w.doorClient()
		for _, c := range []struct {
			size int
			good bool
		}{{port.HeaderBytesMax / 2, true}, {2 * port.HeaderBytesMax, false}} {
			long := strings.Repeat("x", c.size)
			if _, err := kv.Put(metadata.AppendToOutgoingContext(t.Context(), "long", long), &pb.PutRequest{Key: []byte("k")}); (err == nil) != c.good {
				t.Errorf("a call with %d bytes of headers: %v", c.size, err)
			}
			if r := w.send("GET", "/health", nil, http.Header{"Long": {long}}); (r.StatusCode == http.StatusOK) != c.good {
				t.Errorf("a request with %d bytes of headers: %s", c.size, r.Status)
			}
		}
	})
}

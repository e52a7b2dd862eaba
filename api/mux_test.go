package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
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

// TestSilentConnections: who says nothing, or half of something, is let go after a while, and hinders nobody meanwhile.
func TestSilentConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		for _, first := range []string{"", "P", "PRI", "PRI * HTTP/2.0\r\n\r\nSM", "GET / HT", "\x16\x03\x01\x02"} {
			c := s.knock()
			if _, err := io.WriteString(c, first); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%q: %v", first, err)
			}
			if took := time.Since(began); took > prefaceTimeout+headerTimeout+time.Minute {
				t.Errorf("%q was held for %v", first, took)
			}
		}
		for _, first := range []string{"", "P", "PRI"} { // gone at once
			c := s.knock()
			if _, err := io.WriteString(c, first); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		s.put("k", "v")
	})
}

// TestIdleHTTP: a connection on which nothing more is asked is let go.
func TestIdleHTTP(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		c := s.knock()
		ask(t, c, "/version")
		time.Sleep(idleTimeout - time.Second)
		ask(t, c, "/version")
		began := time.Now()
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != idleTimeout {
			t.Errorf("held for %v", took)
		}
	})
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
		if took := time.Since(began); took > 2*stopTimeout {
			t.Errorf("stopping took %v", took)
		}
	})
}

// fullListener fails to accept a number of times, as a process with too many open files does.
type fullListener struct {
	net.Listener
	mu    sync.Mutex // guards the field below
	fails int
}

// Accept implements net.Listener.
func (l *fullListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails > 0 {
		l.fails--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestTooManyOpenFiles: a connection that cannot be accepted does not end the member, who goes on when there is room.
func TestTooManyOpenFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		s := (&API{log: slog.New(slog.DiscardHandler)}).newSplit(Door{Listener: &fullListener{Listener: l, fails: 50}})
		began := time.Now()
		if err := s.run(t.Context()); err != nil {
			t.Errorf("the port was given up: %v", err)
		}
		if took := time.Since(began); took != 50*acceptPause {
			t.Errorf("50 failures took %v", took)
		}
	})
}

// TestHeadersAreBounded: headers of half the bound are read, and those of twice the bound end in an error, in both protocols.
func TestHeadersAreBounded(t *testing.T) {
	inWebBubble(t, nil, func(t *testing.T, w *web) {
		kv := w.doorClient()
		for _, c := range []struct {
			size int
			good bool
		}{{headerBytesMax / 2, true}, {2 * headerBytesMax, false}} {
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

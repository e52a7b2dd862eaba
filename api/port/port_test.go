package port

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
)

// inBubble runs a test with a port of one door, behind which every request is answered with its path and there are no calls, in a bubble
// of testing/synctest.
func inBubble(t *testing.T, test func(t *testing.T, door *bufconn.Listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{
			GRPC: grpc.NewServer(grpc.Creds(Credentials())), Log: slog.New(slog.DiscardHandler),
			HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }),
		})
		door := bufconn.Listen(64 << 10)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- p.Serve(ctx, Door{Listener: door}) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		test(t, door)
	})
}

func knock(t *testing.T, door *bufconn.Listener) net.Conn {
	t.Helper()
	c, err := door.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask makes one HTTP/1 request on c.
func ask(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := fmt.Fprint(c, "GET /here HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "/here" {
		t.Fatalf("%q, %v", body, err)
	}
}

// TestSilentConnections: who says nothing, or half of something, is let go after a while, and hinders nobody meanwhile.
func TestSilentConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, door *bufconn.Listener) {
		for _, first := range []string{"", "P", "PRI", "PRI * HTTP/2.0\r\n\r\nSM", "GET / HT", "\x16\x03\x01\x02"} {
			c := knock(t, door)
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
			c := knock(t, door)
			if _, err := io.WriteString(c, first); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		ask(t, knock(t, door))
	})
}

// TestIdleHTTP: a connection on which nothing more is asked is let go.
func TestIdleHTTP(t *testing.T) {
	inBubble(t, func(t *testing.T, door *bufconn.Listener) {
		c := knock(t, door)
		ask(t, c)
		time.Sleep(idleTimeout - time.Second)
		ask(t, c)
		began := time.Now()
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != idleTimeout {
			t.Errorf("held for %v", took)
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
		s := New(Config{Log: slog.New(slog.DiscardHandler)}).newSplit(Door{Listener: &fullListener{Listener: l, fails: 50}})
		began := time.Now()
		if err := s.run(t.Context()); err != nil {
			t.Errorf("the port was given up: %v", err)
		}
		if took := time.Since(began); took != 50*acceptPause {
			t.Errorf("50 failures took %v", took)
		}
	})
}

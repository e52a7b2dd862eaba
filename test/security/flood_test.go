package security

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// served are clients that were there before the flood and go on writing.
type served struct {
	n, failed atomic.Uint64
	mu        sync.Mutex // guards the fields below
	took      []time.Duration
	first     error
}

const (
	servedClients = 20
	// servedPause stands between two writes of a client. The machine is not to be busy with them alone.
	servedPause = 20 * time.Millisecond
)

func (s *served) run(ctx context.Context, conns []*grpc.ClientConn) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, conn := range conns {
		wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				s.note(put(context.WithoutCancel(ctx), conn, fmt.Sprint("k", i)), time.Since(began))
				time.Sleep(servedPause)
			}
		})
	}
}

func (s *served) note(err error, took time.Duration) {
	s.n.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, took)
	if err != nil && s.first == nil {
		s.first = err
	}
	if err != nil {
		s.failed.Add(1)
	}
}

// since returns median and slowest of the writes since the last call, as text.
func (s *served) since() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := s.took
	s.took = nil
	if len(took) == 0 {
		return "no write"
	}
	slices.Sort(took)
	return fmt.Sprintf("%d writes, median %v, slowest %v", len(took), took[len(took)/2].Round(time.Microsecond), took[len(took)-1].Round(time.Microsecond))
}

// files is how many files this process may open, and the member, which inherits it.
func files(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}

// TestFlood opens connections that begin a handshake and do not go on, and connections that say nothing after it: those who are
// served stay served, others can still come, and a member lets go of what was half open. Long: 8,000 of each, or what the limit of open
// files leaves room for; short: 600.
func TestFlood(t *testing.T) {
	p := newParty(t)
	p.start()
	each := 600
	if *long {
		each = 8000
	}
	if room := (files(t) - 2000) / 2; room < each {
		t.Logf("the limit of %d open files leaves room for %d connections of each kind, not %d", files(t), room, each)
		each = room
	}
	var conns []*grpc.ClientConn
	for range servedClients {
		conn, err := p.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		if err := put(t.Context(), conn, "k"); err != nil {
			t.Fatal(err)
		}
	}
	var s served
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx, conns)
	}()
	time.Sleep(2 * time.Second) // writes without a flood
	t.Logf("before: %s, %s", s.since(), p.memory())

	p.open(each, p.idle)
	t.Logf("%d idle: %s, %s", each, s.since(), p.memory())
	open := p.open(each, p.halfOpen(t))
	t.Logf("%d half open: %s, %s", each, s.since(), p.memory())
	c := &crowd{p: p}
	for i := range 50 { // others come meanwhile
		c.one(i)
	}
	t.Logf("50 more connections: %s", s.since())
	if first := c.first.Load(); first != nil {
		t.Errorf("nobody else can connect: %v", *first)
	}
	for i, conn := range open { // they are not kept
		conn.SetReadDeadline(time.Now().Add(callTimeout))
		if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
			t.Errorf("half open connection %d of %d is still there", i, each)
			break
		}
	}
	t.Logf("after: %s, %s", s.since(), p.memory())
	cancel()
	<-ended
	if s.first != nil {
		t.Errorf("%d of %d writes failed: %v", s.failed.Load(), s.n.Load(), s.first)
	}
}

// memory is what the member takes.
func (p *party) memory() string {
	for line := range strings.Lines(read(p.t, fmt.Sprintf("/proc/%d/status", p.Pid()))) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			return "anonymous memory " + strings.TrimSpace(rest)
		}
	}
	return ""
}

// open opens n connections, some at a time, which stay until the end of the test.
func (p *party) open(n int, one func(i int, c net.Conn) error) []net.Conn {
	p.t.Helper()
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	var at atomic.Int64
	for range 16 {
		wg.Go(func() {
			for i := at.Add(1) - 1; i < int64(n); i = at.Add(1) - 1 {
				c, err := net.Dial("tcp", p.Client)
				if err == nil {
					conns[i], err = c, one(int(i), c)
				}
				if err != nil {
					p.t.Errorf("connection %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	p.t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	if p.t.Failed() {
		p.t.FailNow()
	}
	return conns
}

// idle makes a handshake and says nothing more: half of them speak HTTP/2 and have said so, as clients do that connect ahead.
func (p *party) idle(i int, raw net.Conn) error {
	cfg := p.me.Load().Clone()
	if i%2 == 0 {
		cfg.NextProtos = []string{"h2"}
	}
	raw.SetDeadline(time.Now().Add(callTimeout))
	c := tls.Client(raw, cfg)
	if err := c.Handshake(); err != nil {
		return err
	}
	if i%2 == 0 {
		if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
			return err
		}
		if err := http2.NewFramer(c, c).WriteSettings(); err != nil {
			return err
		}
	}
	return raw.SetDeadline(time.Time{})
}

// halfOpen says nothing, a part of how a handshake begins, or all of it, and waits.
func (p *party) halfOpen(t *testing.T) func(i int, c net.Conn) error {
	ours, theirs := net.Pipe()
	go tls.Client(theirs, p.me.Load()).Handshake() // ends with the pipe
	hello := make([]byte, 4096)
	n, err := ours.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	hello = bytes.Clone(hello[:n])
	return func(i int, c net.Conn) error {
		_, err := c.Write(hello[:i%3*n/2])
		return err
	}
}

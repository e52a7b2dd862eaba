package relay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/etcd"
)

// listen accepts on a free port of the loopback until the test ends, and answers each connection with its name and what
// the client said, once the client has said everything.
func listen(t *testing.T, name string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if said, err := io.ReadAll(c); err == nil {
					fmt.Fprintf(c, "%s heard %s", name, said)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l
}

// relayTo runs a relay until the test ends and returns its address.
func relayTo(t *testing.T, log io.Writer, retry time.Duration, targets ...Target) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := New(Config{Targets: targets, RetryDelay: retry, Log: slog.New(slog.NewTextHandler(log, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ask says hello and returns what comes back, or the error.
func ask(t *testing.T, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return err.Error()
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err.Error()
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(answer)
}

// words collects a log.
type words struct {
	mu sync.Mutex // guards text
	b  strings.Builder
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.b.String(), text)
}

// TestTurns: members take turns, and a client that has said everything still gets its answer.
func TestTurns(t *testing.T) {
	a, b := listen(t, "a"), listen(t, "b")
	at := relayTo(t, io.Discard, 0, Target{Address: a.Addr().String()}, Target{Address: b.Addr().String()})
	got := map[string]int{}
	for range 10 {
		got[ask(t, at)]++
	}
	if got["a heard hello"] != 5 || got["b heard hello"] != 5 {
		t.Errorf("10 connections: %v", got)
	}
}

// TestLostMember: a member that is not there costs no client anything, is not asked again by later ones, and comes back.
func TestLostMember(t *testing.T) {
	a, gone, log := listen(t, "a"), etcd.FreeAddress(t), new(words)
	at := relayTo(t, log, 20*time.Millisecond, Target{Address: gone}, Target{Address: a.Addr().String()})
	for range 4 {
		if got := ask(t, at); got != "a heard hello" {
			t.Fatalf("with one member gone: %q", got)
		}
	}
	if !log.has("deactivated endpoint") {
		t.Error("the log does not name the lost member")
	}
	back, err := net.Listen("tcp", gone)
	if err != nil {
		t.Skipf("somebody else has taken the port: %v", err)
	}
	defer back.Close()
	for range 3000 {
		if log.has("msg=activated") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a member that is back is not used")
}

// TestAllLost: when no member could be reached, the next client does not have to wait for the retry delay.
func TestAllLost(t *testing.T) {
	gone := etcd.FreeAddress(t)
	at := relayTo(t, io.Discard, time.Hour, Target{Address: gone})
	if got := ask(t, at); strings.Contains(got, "heard") {
		t.Fatalf("without members: %q", got)
	}
	l, err := net.Listen("tcp", gone)
	if err != nil {
		t.Skipf("somebody else has taken the port: %v", err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.ReadAll(c) // what is closed unread resets the connection
			io.WriteString(c, "back")
			c.Close()
		}
	}()
	if got := ask(t, at); got != "back" {
		t.Errorf("the member is back: %q", got)
	}
}

// TestChoice: the lowest priority that is not lost, in proportion to the weights.
func TestChoice(t *testing.T) {
	r := New(Config{Targets: []Target{{"far", 2, 10}, {"heavy", 1, 90}, {"light", 1, 10}, {"free", 1, 0}}, Log: slog.New(slog.DiscardHandler)})
	count := func() map[string]int {
		got := map[string]int{}
		for range 10000 {
			got[r.pick(nil).Address]++
		}
		return got
	}
	got := count()
	if got["far"] != 0 || got["heavy"] < 8000 || got["light"] < 500 || got["free"] < 20 || got["free"] > 500 {
		t.Errorf("of 10000: %v", got)
	}
	for _, m := range r.members[1:] {
		m.lost = true
	}
	if got := count(); got["far"] != 10000 {
		t.Errorf("with only the far one left: %v", got)
	}
}

// TestEnd: connections under way end with the relay.
func TestEnd(t *testing.T) {
	a := listen(t, "a")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := New(Config{Targets: []Target{{Address: a.Addr().String()}}, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "half a"); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the relay does not end")
	}
}

package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// echo answers at a place what it is sent.
func echo(t *testing.T, n *network, name string) {
	t.Helper()
	l, err := net.Listen("tcp4", n.listenAddress(name).String()+":2380")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// lookUp asks the name server of one place for another.
func lookUp(t *testing.T, n *network, at, name string) (string, error) {
	t.Helper()
	server := n.places[at].names.conn.LocalAddr().String()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", server)
	}}
	found, err := r.LookupHost(t.Context(), name+domain)
	if err != nil {
		return "", err
	}
	return found[0] + ":2380", nil
}

// say sends a word and waits for its echo; it reports false if there is none in time.
func say(t *testing.T, c net.Conn, word string) bool {
	t.Helper()
	if _, err := c.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	return heard(t, c, word)
}

func heard(t *testing.T, c net.Conn, word string) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	_, err := io.ReadFull(c, got)
	return err == nil && string(got) == word
}

// Goal: the network does to each direction what it is told, and nothing else. Method: two places, one of which answers what it hears.
func TestNetwork(t *testing.T) {
	n, err := newNetwork(t.TempDir())
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(n.close)
	for _, name := range []string{"a", "b"} {
		if err := n.add(name); err != nil {
			t.Fatal(err)
		}
	}
	there, back := way{"a", "b"}, way{"b", "a"}
	set := func(c condition, ways ...way) {
		t.Helper()
		if err := n.set(c, ways...); err != nil {
			t.Fatal(err)
		}
	}
	up := func(up bool) {
		t.Helper()
		if err := n.setUp("b", up); err != nil {
			t.Fatal(err)
		}
	}
	dial := func() net.Conn {
		t.Helper()
		at, err := lookUp(t, n, "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	door, err := lookUp(t, n, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	if own, err := lookUp(t, n, "b", "b"); err != nil || own == door || !strings.HasPrefix(own, n.listenAddress("b").String()) {
		t.Errorf("b finds itself at %s, %v; a finds it at %s", own, err, door)
	}
	if _, err := lookUp(t, n, "a", "nobody"); err == nil {
		t.Error("somebody knows nobody")
	}
	if _, err := net.Dial("tcp4", door); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("with nobody there: %v", err)
	}
	echo(t, n, "b")
	up(true)
	c := dial()
	if !say(t, c, "hello") {
		t.Fatal("no answer")
	}
	if sent, answered := n.links[there].carried.Load(), n.links[back].carried.Load(); sent != 5 || answered != 5 {
		t.Errorf("%d bytes there and %d back", sent, answered)
	}

	set(condition{cut: true}, back)
	if say(t, c, "cut") {
		t.Error("an answer came over a cut link")
	}
	if n.links[there].carried.Load() != 8 {
		t.Error("the other direction is cut, too")
	}
	set(condition{}, back)
	if !heard(t, c, "cut") {
		t.Error("what was sent over a cut link is lost")
	}

	set(condition{cut: true}, there)
	up(false)
	late := dial() // as with lost packets, it is not refused
	up(true)
	if say(t, late, "late") {
		t.Error("an answer through a cut link")
	}
	set(condition{}, there)
	if !heard(t, late, "late") {
		t.Error("a connection over a link that works again stays without an answer")
	}

	set(condition{delay: 50 * time.Millisecond}, there, back)
	began := time.Now()
	if !say(t, c, "slow") || time.Since(began) < 100*time.Millisecond {
		t.Errorf("the answer over slow links came after %v", time.Since(began))
	}
	set(condition{rate: 100}, there)
	began = time.Now()
	if !say(t, c, "1234567890") || !say(t, c, "x") || time.Since(began) < 100*time.Millisecond {
		t.Errorf("ten bytes at 100 a second and one more: after %v", time.Since(began))
	}
	set(condition{}, there)

	if err := n.moveDoors(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection to the old address goes on")
	}
	if at, err := lookUp(t, n, "a", "b"); err != nil || at == door {
		t.Errorf("b is found at %s, %v, as before", at, err)
	}
	if !say(t, dial(), "moved") {
		t.Error("no answer at the new address")
	}
}

// Goal: a frozen disk keeps writers waiting, and a full one refuses them.
func TestDisk(t *testing.T) {
	n, err := newNetwork(t.TempDir())
	if err != nil {
		t.Skip(err)
	}
	n.close()
	d := takeDisk(t)
	const long = 300 * time.Millisecond
	frozen := make(chan error, 1)
	go func() { frozen <- d.freeze(long) }() // ends after that time
	time.Sleep(long / 3)
	began := time.Now()
	if err := d.fill(); err != nil {
		t.Fatal(err)
	}
	if err := <-frozen; err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited < long/3 {
		t.Errorf("a write to a frozen disk took %v", waited)
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &s); err != nil || s.Bavail > 0 {
		t.Errorf("%d blocks of a full disk are free: %v", s.Bavail, err)
	}
	if err := d.empty(); err != nil {
		t.Fatal(err)
	}
}

package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestTell: what is told arrives as one datagram, on a socket in the file system and on an abstract one.
func TestTell(t *testing.T) {
	for _, socket := range []string{filepath.Join(t.TempDir(), "notify"), "@holdfast-test-" + strconv.Itoa(os.Getpid())} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := Find(func(name string) string { return map[string]string{"NOTIFY_SOCKET": socket}[name] })
		if err != nil || m == nil || m.Watchdog() != 0 {
			t.Fatalf("%s: %+v, %v", socket, m, err)
		}
		if err := m.Tell(Ready, Status("serves\nclients")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, err := l.Read(b)
		if err != nil || string(b[:n]) != "READY=1\nSTATUS=serves clients" {
			t.Errorf("%s: heard %q, %v", socket, b[:n], err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Tell(Ready); err == nil {
			t.Errorf("%s: told to nobody without an error", socket)
		}
	}
}

// TestFind is the table of environments.
func TestFind(t *testing.T) {
	own, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getpid()+1)
	for _, c := range []struct {
		socket, usec, pid string
		watchdog          time.Duration
		err               bool
	}{
		{"", "1000000", "", 0, false},
		{"@a", "", "", 0, false},
		{"@a", "1500000", "", 1500 * time.Millisecond, false},
		{"@a", "1500000", own, 1500 * time.Millisecond, false},
		{"@a", "1500000", other, 0, false},
		{"@a", "soon", own, 0, true},
		{"@a", "-1", own, 0, true},
	} {
		m, err := Find(func(name string) string {
			return map[string]string{"NOTIFY_SOCKET": c.socket, "WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}[name]
		})
		if (m != nil) != (c.socket != "") || m.Watchdog() != c.watchdog || (err != nil) != c.err {
			t.Errorf("%+v: %+v, %v", c, m, err)
		}
	}
	var none *Manager
	if err := none.Tell(Ready); err != nil {
		t.Errorf("nobody heard: %v", err)
	}
}

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// notified is a service manager that hears what a process says.
type notified struct {
	t    *testing.T
	conn *net.UnixConn
}

func listenNotify(t *testing.T) (n notified, environ []string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nobody writes any more
	return notified{t, conn}, append(os.Environ(), "NOTIFY_SOCKET="+socket)
}

// next is what is said next.
func (n notified) next() string {
	n.t.Helper()
	b := make([]byte, 4<<10)
	if err := n.conn.SetReadDeadline(time.Now().Add(scriptTimeout)); err != nil {
		n.t.Fatal(err)
	}
	got, err := n.conn.Read(b)
	if err != nil {
		n.t.Fatalf("nothing is said: %v", err)
	}
	return string(b[:got])
}

// until skips what is said until it has a text.
func (n notified) until(text string) string {
	for {
		if got := n.next(); strings.Contains(got, text) {
			return got
		}
	}
}

// supervisedMember runs a member with more environment and flags.
func supervisedMember(t *testing.T, environ []string, flags ...string) *exec.Cmd {
	t.Helper()
	n := addresses(t)
	program := exec.CommandContext(t.Context(), "holdfast", append([]string{"--initial-cluster", "default=" + n.peer, "--data-dir", filepath.Join(t.TempDir(), "d"),
		"--listen-client-urls", n.client, "--advertise-client-urls", n.client, "--listen-peer-urls", n.peer,
		"--initial-advertise-peer-urls", n.peer}, flags...)...)
	program.Env = environ
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = program.Process.Kill() // may have ended
		_ = program.Wait()         // whose error is that it was ended
	})
	return program
}

// TestServiceManager: a member says when it is ready, how it stands, that it lives as often as the watchdog wants, and that it
// stops.
func TestServiceManager(t *testing.T) {
	manager, environ := listenNotify(t)
	program := supervisedMember(t, append(environ, "WATCHDOG_USEC=900000"))
	if got := manager.until("READY"); !strings.HasPrefix(got, "READY=1\nSTATUS=member ") || !strings.Contains(got, "leads in term") {
		t.Errorf("it begins with %q", got)
	}
	for range 3 {
		manager.until("WATCHDOG=1")
	}
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	manager.until("STOPPING=1")
}

// TestServiceManagerWaits: a founder that is alone is not ready, and says so until it is told to stop; one that fails says why.
func TestServiceManagerWaits(t *testing.T) {
	manager, environ := listenNotify(t)
	own, other := addresses(t), addresses(t)
	program := supervisedMember(t, environ, "--initial-advertise-peer-urls", own.peer, "--initial-cluster", "default="+own.peer+",other="+other.peer)
	if got := manager.next(); strings.Contains(got, "READY") || !strings.Contains(got, "STATUS=") {
		t.Errorf("it begins with %q", got)
	}
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := manager.until("STOPPING=1"); strings.Contains(got, "READY") {
		t.Errorf("it ends with %q", got)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	supervisedMember(t, environ, "--wal-dir", file)
	manager.until("not a directory")
}

// TestWatchdog: whoever stands still, or waits for its disk, gives no sign of life.
func TestWatchdog(t *testing.T) {
	var ticks uint64
	var stalled bool
	dog := watchdog{progress: func() (uint64, bool) { return ticks, stalled }}
	for i, c := range []struct {
		ticks   uint64
		stalled bool
		want    bool
	}{{1, false, true}, {2, false, true}, {2, false, false}, {2, false, false}, {3, true, false}, {4, false, true}} {
		if ticks, stalled = c.ticks, c.stalled; dog.alive() != c.want {
			t.Errorf("step %d, %+v: wrong", i, c)
		}
	}
	for of, want := range map[time.Duration]time.Duration{0: statusInterval, time.Second: time.Second / 3, time.Hour: statusInterval} {
		if got := lookInterval(of); got != want {
			t.Errorf("a watchdog of %v is served every %v", of, got)
		}
	}
}

// Package systemd tells the service manager that started this process how it stands.
//
// A unit with Type=notify waits for READY=1; one with WatchdogSec=, once ready, for WATCHDOG=1 at least that often.
//
//	Shape   a datagram of lines NAME=value to the unix socket in NOTIFY_SOCKET, "@" for the abstract name space
//	Errors  what the socket answers; without a service manager nothing is said to anybody
//	Source  sd_notify(3), sd_watchdog_enabled(3)
package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// The states a manager knows.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Alive    = "WATCHDOG=1"
)

// Status is a line for who looks at the unit. It may not hold a line break.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", " ") }

// Manager is the service manager of this process. A nil one hears nothing.
type Manager struct {
	socket   string
	watchdog time.Duration
}

// Find looks for a manager in the environment; nil if there is none.
func Find(getenv func(string) string) (*Manager, error) {
	m := &Manager{socket: getenv("NOTIFY_SOCKET")}
	if m.socket == "" {
		return nil, nil
	}
	usec, pid := getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID")
	if usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) { // without an id it means whoever has the variable
		return m, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 {
		return m, fmt.Errorf("WATCHDOG_USEC=%s is no number of microseconds: the watchdog is not served", usec)
	}
	m.watchdog = time.Duration(n) * time.Microsecond
	return m, nil
}

// Watchdog is how long the manager waits for a sign of life; 0 is for ever.
func (m *Manager) Watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.watchdog
}

// Tell sends states in one datagram.
func (m *Manager) Tell(states ...string) error {
	if m == nil {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	_, err = conn.Write([]byte(strings.Join(states, "\n")))
	if err := errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

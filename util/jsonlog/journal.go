package jsonlog

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// journalSocket is where systemd's journal takes datagrams of fields.
const journalSocket = "/run/systemd/journal/socket"

// journal sends each line to systemd's journal as the field MESSAGE, with PRIORITY, PACKAGE (the caller's directory) and
// SYSLOG_IDENTIFIER, the fields etcd sends. What the journal does not take, say a line above the datagram's bound, goes to
// the fallback. A journal that was restarted is a new socket under the old path: a failed line is tried there once.
type journal struct {
	socket   string
	conn     net.Conn // guarded by Outputs.mu
	fallback io.Writer
}

func openJournal(socket string, fallback io.Writer) (output, error) {
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return nil, fmt.Errorf("can't find journal (%w)", err)
	}
	return &journal{socket, conn, fallback}, nil
}

func (j *journal) write(level slog.Level, caller string, line []byte) error {
	dir, _, _ := strings.Cut(caller, "/")
	b := journalField(nil, "PRIORITY", priority(level))
	b = journalField(b, "PACKAGE", dir)
	b = journalField(b, "SYSLOG_IDENTIFIER", filepath.Base(os.Args[0]))
	b = journalField(b, "MESSAGE", strings.TrimSuffix(string(line), "\n"))
	if _, err := j.conn.Write(b); err == nil || j.resend(b) {
		return nil
	}
	_, err := j.fallback.Write(line)
	return err
}

// resend reports whether a new connection took the datagram; it then replaces the old one.
func (j *journal) resend(b []byte) bool {
	conn, err := net.Dial("unixgram", j.socket)
	if err != nil {
		return false
	}
	if _, err := conn.Write(b); err != nil {
		conn.Close() // nothing was sent on it
		return false
	}
	j.conn.Close() // its other end is gone
	j.conn = conn
	return true
}

func (j *journal) Close() error { return j.conn.Close() }

// journalField appends NAME=value and a newline; a value that holds a newline itself follows its name with its length:
//
//	NAME \n | length (8 B, little endian) | value | \n
func journalField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	return append(append(b, value...), '\n')
}

// priority is syslog's number for a level.
func priority(level slog.Level) string {
	switch levelName(level) {
	case "debug":
		return "7"
	case "info":
		return "6"
	case "warn":
		return "4"
	case "error":
		return "3"
	}
	return "2" // critical: dpanic, panic, fatal
}

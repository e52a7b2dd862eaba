package tlsconf

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/util/quiet"
)

// TestSilentHandshakesEnd: one that says nothing, or half of something, ends after its time.
func TestSilentHandshakesEnd(t *testing.T) {
	p := newPlace(t)
	s := p.open()
	synctest.Test(t, func(t *testing.T) {
		for _, first := range []string{"", "\x16\x03\x01\x02"} {
			ours, theirs := net.Pipe()
			began, done := time.Now(), make(chan error)
			go func() {
				_, err := s.Handshake(t.Context(), ours, false)
				done <- err
			}()
			if _, err := io.WriteString(theirs, first); err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, theirs) // an alert
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != handshakeTimeout {
				t.Errorf("%q: %v after %v", first, err, time.Since(began))
			}
		}
	})
}

// TestCrowdOfHandshakes begins more handshakes than there may be and lets them wait: those that have waited long make room, and
// who means it gets through.
func TestCrowdOfHandshakes(t *testing.T) {
	p := newPlace(t)
	s := p.open()
	s.gate.max = 8
	var later atomic.Int64
	s.gate.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	hello := clientHello(t)
	l := listen(t)
	ended := make(chan error, 100)
	for range 32 {
		theirs, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		if _, err := theirs.Write(hello); err != nil {
			t.Fatal(err)
		}
		ours, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := s.Handshake(t.Context(), ours, false)
			ended <- err
		}()
	}
	eventually(t, "all wait", func() bool {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		return s.gate.waiting.Len() == 32
	})
	accepts(t, s, p.client(p.issue("early"))) // nobody has to make room yet
	if len(ended) > 0 {
		t.Fatal(<-ended)
	}
	later.Store(int64(2 * stallMin))
	for range 4 {
		accepts(t, s, p.client(p.issue("alice")))
	}
	for range 25 { // all but seven, and the one that came
		if err := <-ended; !errors.Is(err, ErrCrowded) {
			t.Fatal(err)
		}
	}
	if n := strings.Count(p.said.String(), "rejected connection on client endpoint"); n == 0 || n > 3*quiet.LinesMax {
		t.Errorf("%d lines:\n%s", n, p.said.String())
	}
}

// clientHello is how a handshake begins.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	go tls.Client(theirs, &tls.Config{InsecureSkipVerify: true}).Handshake() // ends with the pipe
	b := make([]byte, 4096)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	return bytes.Clone(b[:n])
}

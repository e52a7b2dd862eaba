package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/tlsconf/tlstest"
)

// place is a folder with the files of a side, and what the side has logged.
type place struct {
	t   *testing.T
	dir string
	ca  *tlstest.Pair
	Options
	said text
	now  time.Time // 0: the real time
}

// text is a log that is written by one goroutine and read by another.
type text struct {
	mu  sync.Mutex // guards the field below
	buf bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// newPlace has a CA, a certificate for 127.0.0.1 and localhost, and demands certificates of that CA.
func newPlace(t *testing.T) *place {
	p := &place{t: t, dir: t.TempDir(), ca: tlstest.NewCA(t, "root")}
	cert, key := p.ca.Issue(t, tlstest.Leaf{Name: "server", Hosts: []string{"127.0.0.1", "localhost"}}).Files(t, p.dir, "server")
	ca, _ := p.ca.Files(t, p.dir, "ca")
	p.Options = Options{CertFile: cert, KeyFile: key, TrustedCAFile: ca, Log: slog.New(slog.NewTextHandler(&p.said, nil))}
	p.Now = func() time.Time {
		if p.now.IsZero() {
			return time.Now()
		}
		return p.now
	}
	return p
}

func (p *place) path(name string) string { return p.dir + "/" + name }

func (p *place) open() *Side {
	p.t.Helper()
	s, err := Open(p.Options)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// client is somebody with a certificate.
func (p *place) client(of *tlstest.Pair) *tls.Config {
	cfg := &tls.Config{RootCAs: tlstest.Pool(p.ca), ServerName: "localhost"}
	if of != nil {
		pair, err := tls.X509KeyPair(of.CertPEM(), of.KeyPEM(p.t))
		if err != nil {
			p.t.Fatal(err)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return cfg
}

// issue makes a client's certificate.
func (p *place) issue(name string) *tlstest.Pair {
	return p.ca.Issue(p.t, tlstest.Leaf{Name: name, ClientOnly: true})
}

// meet makes one handshake and an echo, and returns what the client saw, and what each side met.
func meet(t *testing.T, s *Side, cfg *tls.Config) (saw *x509.Certificate, server, client error) {
	t.Helper()
	l := listen(t)
	done := make(chan error, 1)
	go func() { done <- echo(t, s, l) }()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := tls.Client(raw, cfg)
	if client = c.Handshake(); client == nil {
		saw = c.ConnectionState().PeerCertificates[0]
		if _, client = c.Write([]byte("x")); client == nil {
			_, client = io.ReadFull(c, make([]byte, 1)) // tickets, and what the server thinks of our certificate, come with it
		}
	}
	raw.Close()
	return saw, <-done, client
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func echo(t *testing.T, s *Side, l net.Listener) error {
	raw, err := l.Accept()
	if err != nil {
		return err
	}
	c, err := s.Handshake(t.Context(), raw, false)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = c.Write(b)
	return err
}

// accepts fails the test unless the handshake works.
func accepts(t *testing.T, s *Side, cfg *tls.Config) *x509.Certificate {
	t.Helper()
	saw, server, client := meet(t, s, cfg)
	if server != nil || client != nil {
		t.Fatalf("handshake: server %v, client %v", server, client)
	}
	return saw
}

// refuses fails the test unless the server ends the handshake for that reason.
func refuses(t *testing.T, s *Side, cfg *tls.Config, why string) {
	t.Helper()
	_, server, client := meet(t, s, cfg)
	if server == nil || client == nil || !strings.Contains(server.Error(), why) {
		t.Fatalf("handshake: server %v, client %v, want %q", server, client, why)
	}
}

// eventually waits for something that comes after a while.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

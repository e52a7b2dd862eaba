package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// connecting is an HTTP proxy that joins its clients with where they want to go.
type connecting struct {
	at    *url.URL
	asked atomic.Int32
}

func newConnecting(t *testing.T) *connecting {
	p := &connecting{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if user, password, ok := basic(r); r.Method != http.MethodConnect || !ok || user != "who" || password != "pass" {
			http.Error(w, "who are you?", http.StatusProxyAuthRequired)
			return
		}
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { // both end when either side closes
			io.Copy(out, in)
			out.Close()
		}()
		io.Copy(in, out)
		in.Close()
	}))
	t.Cleanup(s.Close)
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.at = at
	return p
}

// basic is what a client says who it is to a proxy.
func basic(r *http.Request) (user, password string, ok bool) {
	q := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	return q.BasicAuth()
}

// TestTLSThroughProxy: behind an HTTP proxy, too, a connection follows the files of TLS as they are when it is made; who the proxy does not
// know, and where it cannot go, is an error that tells no password.
func TestTLSThroughProxy(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer server.Close()
	good := x509.NewCertPool()
	good.AddCert(server.Certificate())
	var pool atomic.Pointer[x509.CertPool]
	pool.Store(x509.NewCertPool())
	proxy := newConnecting(t)
	as := *proxy.at
	as.User = url.UserPassword("who", "pass")
	client := &http.Transport{
		Proxy:       func(*http.Request) (*url.URL, error) { return &as, nil },
		DialContext: new(net.Dialer).DialContext, TLSHandshakeTimeout: time.Minute, DisableKeepAlives: true,
	}
	UseTLS(client, func(host string) *tls.Config { return &tls.Config{RootCAs: pool.Load(), ServerName: host} })
	get := func(where string) string {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, where, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := client.RoundTrip(q)
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err.Error()
		}
		return string(body)
	}
	if got := get(server.URL); !strings.Contains(got, "unknown authority") {
		t.Errorf("with an authority that does not vouch for the server: %s", got)
	}
	pool.Store(good)
	if got := get(server.URL); got != "hello" {
		t.Errorf("with the right one: %s", got)
	}
	if n := proxy.asked.Load(); n != 2 {
		t.Errorf("the proxy was asked %d times", n)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	if got := get(strings.Replace(gone.URL, "http:", "https:", 1)); !strings.Contains(got, "502 Bad Gateway") {
		t.Errorf("where nobody is: %s", got)
	}
	as.User = url.UserPassword("who", "wrong-password")
	if got := get(server.URL); !strings.Contains(got, "407") || strings.Contains(got, "wrong-password") {
		t.Errorf("with the wrong password: %s", got)
	}
}

// TestProxyThatIsSilent: one that takes a connection and says nothing holds up a request no longer than a handshake may take.
func TestProxyThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer c.Close()
		line, _ := bufio.NewReader(c).ReadString('\n')
		heard <- line
		io.Copy(io.Discard, c) // until the other side gives up
	}()
	client := &http.Transport{
		Proxy:       func(*http.Request) (*url.URL, error) { return &url.URL{Scheme: "http", Host: l.Addr().String()}, nil },
		DialContext: new(net.Dialer).DialContext, TLSHandshakeTimeout: 50 * time.Millisecond,
	}
	UseTLS(client, func(string) *tls.Config { return &tls.Config{} })
	c, err := client.DialTLSContext(context.Background(), "tcp", "member.invalid:2380")
	if err == nil {
		c.Close()
		t.Error("connected through a proxy that says nothing")
	}
	if line := <-heard; line != "CONNECT member.invalid:2380 HTTP/1.1\r\n" {
		t.Errorf("it heard %q", line)
	}
}

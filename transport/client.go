package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// idleMax is how long an unused connection is kept: less than the 5 s after which an etcd closes it, so that no request
	// goes into one that is about to be closed.
	idleMax = ioTimeout - 500*time.Millisecond
	// keepAlive finds out that a machine is gone while nothing is sent. etcd's number.
	keepAlive = 30 * time.Second
)

// clients are the connections we open, by how long they may stand still.
type clients struct {
	streams   *http.Transport // never for long: the other side sends signs of life
	posts     *http.Transport // a message must be taken and answered within a bound each
	snapshots *http.Transport // see snapshotStallMax and snapshotAnswerMax
}

func newClients(cfg Config) clients {
	c := clients{
		streams:   newClient(cfg, cfg.ReadTimeout, cfg.WriteTimeout),
		posts:     newClient(cfg, 0, cfg.WriteTimeout),
		snapshots: newClient(cfg, 0, snapshotStallMax),
	}
	c.posts.MaxIdleConnsPerHost = pipelineWorkers
	c.posts.ResponseHeaderTimeout = cfg.ReadTimeout
	c.snapshots.ResponseHeaderTimeout = snapshotAnswerMax
	return c
}

func newClient(cfg Config, read, write time.Duration) *http.Transport {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: keepAlive}).DialContext
	}
	timed := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
		defer cancel()
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &timedConn{Conn: conn, read: read, write: write}, nil
	}
	client := &http.Transport{
		Proxy:               http.ProxyFromEnvironment, // as in etcd
		DialContext:         timed,
		TLSHandshakeTimeout: cfg.DialTimeout,
		MaxIdleConnsPerHost: -1,
		IdleConnTimeout:     idleMax,
		DisableCompression:  true,
		WriteBufferSize:     writeBytes,
		ReadBufferSize:      readBuffer,
	}
	UseTLS(client, cfg.TLS)
	return client
}

// UseTLS makes client ask for the configuration anew at each connection to an https URL, so that it follows files, also through a proxy
// of HTTP. Through other proxies (https, socks5) it is the one of now for good. With a nil config nothing changes.
func UseTLS(client *http.Transport, config func(host string) *tls.Config) {
	if config == nil {
		return
	}
	dial, timeout := tunnels(client), client.TLSHandshakeTimeout
	client.TLSClientConfig = config("")
	client.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn := tls.Client(raw, config(host))
		if err := conn.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		return conn, nil
	}
}

func (c clients) close() {
	c.streams.CloseIdleConnections()
	c.posts.CloseIdleConnections()
	c.snapshots.CloseIdleConnections()
}

// timedConn ends a connection on which a read or a write takes too long; 0 stands for no bound.
type timedConn struct {
	net.Conn
	read, write time.Duration
}

// Read reads within the bound.
func (c *timedConn) Read(b []byte) (int, error) {
	if c.read > 0 {
		if err := c.SetReadDeadline(time.Now().Add(c.read)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

// Write writes within the bound.
func (c *timedConn) Write(b []byte) (int, error) {
	if c.write > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// timedBody is the body of a request, of which something must come within a bound.
type timedBody struct {
	r       *http.Request
	control *http.ResponseController
	bound   time.Duration

	mu    sync.Mutex // guards the field below
	cause error      // the body was abandoned; further reads fail with it
}

func newTimedBody(w http.ResponseWriter, r *http.Request, bound time.Duration) *timedBody {
	return &timedBody{r: r, control: http.NewResponseController(w), bound: bound}
}

// Read reads within the bound.
func (b *timedBody) Read(p []byte) (int, error) {
	if err := b.extend(); err != nil {
		return 0, err
	}
	n, err := b.r.Body.Read(p)
	return n, b.because(err)
}

func (b *timedBody) extend() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cause != nil {
		return b.cause
	}
	return b.control.SetReadDeadline(time.Now().Add(b.bound))
}

// because names the true reason of an error.
func (b *timedBody) because(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cause != nil && err != nil {
		return errors.Join(b.cause, err)
	}
	return err
}

// abandon makes the present read and later ones fail with cause.
func (b *timedBody) abandon(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cause = cause
	_ = b.control.SetReadDeadline(time.Now()) // fails only on a connection that is gone
}

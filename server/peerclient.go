package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/transport"
)

// peerClient asks other members what goes beside raft, with a request each to one of their peer URLs: renewals of leases,
// hashes, the list of members, promotions.
type peerClient struct {
	http *http.Transport
}

// peerClientConfig says how a peerClient connects.
type peerClientConfig struct {
	// TLS is for a connection to an https URL of that host, certificate to show included; nil: the system's roots, no
	// certificate.
	TLS func(host string) *tls.Config
	// DialTimeout bounds name lookup and connect together, and the TLS handshake behind them; 0: 2 s.
	DialTimeout time.Duration
	// Dial replaces net.Dialer, for simulated networks; nil: the real one, which looks names up anew each time.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	// peerConnsMax bounds the connections to one peer URL. A request needs one to itself, and a renewal may wait there until
	// a lease that is over is gone; more requests than this wait for their turn or their deadline.
	peerConnsMax = 128
	// peerIdleMax is below the 5 s after which an etcd closes a connection that nobody uses, so that no request goes into one
	// that is about to be closed.
	peerIdleMax = 4500 * time.Millisecond
	// peerAnswerMax is the bound of an answer unless the request says otherwise: ample for a hash or a list of members.
	peerAnswerMax = 1 << 20
)

func newPeerClient(cfg peerClientConfig) *peerClient {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	timeout := cmp.Or(cfg.DialTimeout, 2*time.Second)
	client := &http.Transport{
		Proxy: http.ProxyFromEnvironment, // as in etcd
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return dial(ctx, network, address)
		},
		TLSHandshakeTimeout: timeout,
		MaxConnsPerHost:     peerConnsMax,
		MaxIdleConnsPerHost: peerConnsMax,
		IdleConnTimeout:     peerIdleMax,
		DisableCompression:  true,
	}
	transport.UseTLS(client, cfg.TLS)
	return &peerClient{client}
}

// close lets go of the connections that are not in use.
func (c *peerClient) close() { c.http.CloseIdleConnections() }

// peerRequest is what a member is asked.
type peerRequest struct {
	method, path string
	header       http.Header // may be nil
	body         []byte
	// answerMax bounds the body of the answer in bytes; 0 is peerAnswerMax.
	answerMax int64
}

// peerAnswer is what a member said, whether it is what was hoped for or not. Redirects are not followed.
type peerAnswer struct {
	url    string // that was asked, without the path
	status int
	header http.Header
	body   []byte
}

// errPeerAnswerTooLarge says that the body of an answer exceeds what was asked for.
var errPeerAnswerTooLarge = errors.New("the answer is too large")

// Bodies that members send each other.
const (
	contentProtobuf = "application/protobuf"
	contentJSON     = "application/json"
)

// contentHeader is the header of a request with a body.
func contentHeader(kind string) http.Header { return http.Header{"Content-Type": {kind}} }

// ask sends a request to a member with the given peer URLs, to one after the other until one answers, within the deadline
// of ctx. The answer may be a refusal.
func (c *peerClient) ask(ctx context.Context, urls []string, q peerRequest) (*peerAnswer, error) {
	var errs []error
	for _, u := range urls {
		answer, err := c.askOne(ctx, u, q)
		if err == nil {
			return answer, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, errors.New("the member has no peer URL")
	}
	return nil, errors.Join(errs...)
}

// askOne sends a request to one peer URL.
func (c *peerClient) askOne(ctx context.Context, base string, q peerRequest) (*peerAnswer, error) {
	answer, err := c.send(ctx, base, q)
	if err != nil {
		return nil, fmt.Errorf("%s %s%s: %w", q.method, base, q.path, err)
	}
	return answer, nil
}

func (c *peerClient) send(ctx context.Context, base string, q peerRequest) (*peerAnswer, error) {
	if u, err := url.Parse(base); err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("no URL of a peer: %q", base)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, strings.TrimRight(base, "/")+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := readAnswer(resp.Body, cmp.Or(q.answerMax, peerAnswerMax))
	if err != nil {
		return nil, err
	}
	return &peerAnswer{url: base, status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// readAnswer reads a body to its end, so that its connection can be used again, or up to its bound.
func readAnswer(r io.ReadCloser, bound int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, bound+1))
	err = errors.Join(err, r.Close())
	if err == nil && int64(len(body)) > bound {
		err = fmt.Errorf("%w: more than %d bytes", errPeerAnswerTooLarge, bound)
	}
	return body, err
}

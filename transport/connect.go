package transport

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// tunnels takes the ways through plain HTTP proxies away from client, which would use one configuration of TLS for all time behind them.
// It returns how to reach an address, through a proxy or without: what tells the proxy's answer from the member's is TLS above it. Proxies
// of other kinds stay with client.
func tunnels(client *http.Transport) func(ctx context.Context, network, address string) (net.Conn, error) {
	dial, choose := client.DialContext, client.Proxy
	if choose == nil {
		return dial
	}
	ours := func(r *http.Request) (*url.URL, error) { // nil if there is none or client uses it
		if proxy, err := choose(r); err != nil || proxy == nil || r.URL.Scheme != "https" || proxy.Scheme != "http" {
			return nil, err
		}
		return choose(r)
	}
	client.Proxy = func(r *http.Request) (*url.URL, error) {
		if proxy, err := ours(r); err != nil || proxy != nil {
			return nil, err
		}
		return choose(r)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		proxy, err := ours(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
		if err != nil {
			return nil, err
		}
		if proxy == nil {
			return dial(ctx, network, address)
		}
		port := proxy.Port()
		if port == "" {
			port = "80"
		}
		conn, err := dial(ctx, network, net.JoinHostPort(proxy.Hostname(), port))
		if err != nil {
			return nil, err
		}
		if err := connect(ctx, conn, proxy, address, client.TLSHandshakeTimeout); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
}

// connect has a proxy join conn with an address.
func connect(ctx context.Context, conn net.Conn, proxy *url.URL, address string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // ends a read that waits
	q := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		q.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := q.Write(conn); err != nil {
		return fmt.Errorf("ask the proxy %s for %s: %w", proxy.Host, address, err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), q) // nothing follows before TLS says something
	if err != nil {
		return fmt.Errorf("ask the proxy %s for %s: %w", proxy.Host, address, err)
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy %s does not connect to %s: %s", proxy.Host, address, r.Status)
	}
	return nil
}

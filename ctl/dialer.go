package ctl

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

type dialFunc = func(ctx context.Context, address string) (net.Conn, error)

// nameDialer connects to endpoints that are names: with each connection it asks for the name's addresses anew and tries them one
// after the other, beginning behind the one it came to last. So a client that was given one name for a whole cluster outlives
// the loss of a member, and its connections spread. It is nil where no endpoint is a name, or where a proxy stands in between,
// which looks names up itself: the client's own dialing does then.
func (t *tool) nameDialer(endpoints []string) dialFunc {
	named := false
	for _, ep := range endpoints {
		host := hostOf(ep)
		named = named || host != "" && net.ParseIP(host) == nil
		if proxied(host) {
			return nil
		}
	}
	if !named {
		return nil
	}
	var mu sync.Mutex // guards the field below
	last := map[string]string{}
	return func(ctx context.Context, target string) (net.Conn, error) {
		if path, ok := strings.CutPrefix(target, "unix:"); ok {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(path, "//"))
		}
		host, port, err := net.SplitHostPort(target)
		if err != nil || net.ParseIP(host) != nil {
			return new(net.Dialer).DialContext(ctx, "tcp", target)
		}
		addresses, err := t.env.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		addresses = after(addresses, last[target])
		mu.Unlock()
		conn, at, err := t.dialFirst(ctx, addresses, port)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		last[target] = at
		mu.Unlock()
		return conn, nil
	}
}

// connectParams bound one try to connect to a name, from its first address to the server's greeting, and the pause until the next. A
// member that takes connections and says nothing, because it hangs, costs no more than that: gRPC would wait 20 seconds.
func (t *tool) connectParams() grpc.ConnectParams {
	pause := backoff.DefaultConfig
	pause.BaseDelay = 100 * time.Millisecond
	return grpc.ConnectParams{Backoff: pause, MinConnectTimeout: t.nameDialTimeout()}
}

// nameDialTimeout is how long a connection to a name may take.
func (t *tool) nameDialTimeout() time.Duration { return max(t.flags.dialTimeout, time.Second) }

// dialFirst connects to the first address that takes the connection. One that is silent leaves the others as much of the time as it has.
func (t *tool) dialFirst(ctx context.Context, addresses []string, port string) (net.Conn, string, error) {
	var errs []error
	for i, address := range addresses {
		d := net.Dialer{Timeout: t.nameDialTimeout()}
		if deadline, limited := ctx.Deadline(); limited {
			d.Timeout = time.Until(deadline) / time.Duration(len(addresses)-i)
		}
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address, port))
		if err == nil {
			return conn, address, nil
		}
		errs = append(errs, err)
	}
	return nil, "", errors.Join(errs...)
}

// after turns addresses so that they begin behind last; an unknown last changes nothing.
func after(addresses []string, last string) []string {
	for i, a := range addresses {
		if a == last {
			return append(append([]string{}, addresses[i+1:]...), addresses[:i+1]...)
		}
	}
	return addresses
}

// hostOf is the host of an endpoint, empty for a socket of the file system.
func hostOf(endpoint string) string {
	if strings.HasPrefix(endpoint, "unix") {
		return ""
	}
	_, rest, found := strings.Cut(endpoint, "://")
	if !found {
		rest = endpoint
	}
	host, _, err := net.SplitHostPort(rest)
	if err != nil {
		return rest
	}
	return host
}

// proxied tells whether the environment puts a proxy before host.
func proxied(host string) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: host}})
	return err == nil && proxy != nil
}

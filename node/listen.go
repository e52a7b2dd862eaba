package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/api/port"
	"holdfast/tlsconf"
)

// listen takes all addresses.
func (n *Node) listen() error {
	c := &n.cfg
	if err := c.checkShared(); err != nil {
		return err
	}
	clients := newCrowd(c.Log)
	for _, group := range []struct {
		urls      []url.URL
		flag      string
		side      *tlsconf.Side
		atAddress bool
		crowded   bool // strangers in any number come here
		to        *[]port.Door
	}{
		{c.PeerURLs, "--listen-peer-urls", c.PeerTLS, true, false, &n.constant.Peers},
		{c.ClientURLs, "--listen-client-urls", c.ClientTLS, false, true, &n.at.Clients},
		{c.HTTPURLs, "--listen-client-http-urls", c.ClientTLS, false, true, &n.at.HTTP},
		{c.MetricsURLs, "--listen-metrics-urls", c.ClientTLS, true, false, &n.constant.Metrics},
	} {
		at := map[string]int{} // address to place in group.to
		for _, u := range group.urls {
			secure := secured(u)
			if secure && !group.side.Serves() {
				return errNoCert(u, group.flag)
			}
			i, shared := at[address(u)]
			if !shared || u.Port() == "0" {
				l, err := c.listen(u, group.flag)
				if err != nil {
					return err
				}
				if group.crowded {
					l = clients.bound(l)
				}
				i = len(*group.to)
				at[address(u)] = i
				*group.to = append(*group.to, port.Door{Listener: l, AtAddress: group.atAddress})
			}
			door := &(*group.to)[i]
			if secure {
				door.TLS = group.side
			} else {
				door.Plain = true
			}
		}
	}
	return nil
}

func secured(u url.URL) bool { return u.Scheme == "https" || u.Scheme == "unixs" }

func isUnix(u url.URL) bool { return u.Scheme == "unix" || u.Scheme == "unixs" }

// address is where u listens.
func address(u url.URL) string {
	if isUnix(u) {
		return u.Host + u.Path
	}
	return u.Host
}

// checkShared refuses an address for everything that is also one for HTTP alone. etcd's words.
func (c *Config) checkShared() error {
	for _, u := range c.HTTPURLs {
		if slices.ContainsFunc(c.ClientURLs, func(other url.URL) bool { return address(other) == address(u) && u.Port() != "0" }) {
			return fmt.Errorf("cannot bind both --listen-client-urls and --listen-client-http-urls on the same url %s", u.String())
		}
	}
	return nil
}

// errNoCert says what is missing for u. etcd's words.
func errNoCert(u url.URL, flag string) error {
	switch flag {
	case "--listen-metrics-urls":
		return errors.New("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")
	case "--listen-peer-urls":
		return fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented (--peer-cert-file, --peer-key-file)", u.Host)
	}
	return fmt.Errorf("TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme", u.String())
}

// listen opens one address. flag is what the user has to change if that fails.
func (c *Config) listen(u url.URL, flag string) (net.Listener, error) {
	network, address := "tcp", u.Host
	if isUnix(u) {
		network, address = "unix", u.Host+u.Path
		if err := removeSocket(address); err != nil {
			return nil, fmt.Errorf("make room for the socket %s of %s: %w", address, flag, err)
		}
	}
	sockets := net.ListenConfig{Control: c.socketOptions}
	l, err := sockets.Listen(context.Background(), network, address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: the address is in use by another process (%w); stop that process or change %s", u.String(), err, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s of %s: %w", u.String(), flag, err)
	}
	return l, nil
}

// socketOptions sets what is asked for before a socket is bound.
func (c *Config) socketOptions(_, _ string, raw syscall.RawConn) error {
	var errs []error
	err := raw.Control(func(fd uintptr) {
		if c.ReuseAddress {
			errs = append(errs, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		}
		if c.ReusePort {
			errs = append(errs, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		}
	})
	return errors.Join(append(errs, err)...)
}

// removeSocket takes away what a killed process left at path: a socket behind which nobody listens, and nothing else.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("there is something else that is no socket")
	}
	if c, err := net.Dial("unix", path); err == nil {
		return errors.Join(syscall.EADDRINUSE, c.Close())
	}
	return os.Remove(path)
}

package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/tlsconf"
	"holdfast/tlsconf/tlstest"
)

// anySecure is a port that the system chooses.
var anySecure = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}

// side is one with a certificate for 127.0.0.1.
func side(t *testing.T, ca *tlstest.Pair) *tlsconf.Side {
	t.Helper()
	o := tlsconf.Options{Log: testConfig("").Log, Protocols: []string{"h2", "http/1.1"}}
	o.CertFile, o.KeyFile = ca.Issue(t, tlstest.Leaf{Hosts: []string{"127.0.0.1"}}).Files(t, t.TempDir(), "server")
	s, err := tlsconf.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSecureDoors opens https and unixs of every kind, and an address that is listed as http and https, and asks at each.
func TestSecureDoors(t *testing.T) {
	ca := tlstest.NewCA(t, "root")
	believing := &tls.Config{RootCAs: tlstest.Pool(ca)}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: believing, DisableKeepAlives: true}}
	cfg := testConfig(t.TempDir())
	cfg.ClientTLS, cfg.PeerTLS = side(t, ca), side(t, ca)
	both, socket := free(t), filepath.Join(t.TempDir(), "s")
	secure := both
	secure.Scheme = "https"
	cfg.ClientURLs, cfg.MetricsURLs, cfg.PeerURLs = []url.URL{both, secure, {Scheme: "unixs", Path: socket}}, anySecure, anySecure
	overSocket := &http.Client{Transport: &http.Transport{TLSClientConfig: believing, DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	type question struct {
		client *http.Client
		url    string
	}
	for _, own := range [][]url.URL{anySecure, nil} { // HTTP has a door of its own, and shares one
		cfg.HTTPURLs = own
		n, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		questions := map[string]question{
			"metrics":      {client, "https://" + n.constant.Metrics[0].Addr().String() + "/metrics"},
			"other member": {client, "https://" + n.constant.Peers[0].Addr().String() + "/members"},
		}
		if own != nil {
			questions["HTTP alone"] = question{client, "https://" + n.at.HTTP[0].Addr().String() + "/version"}
		} else {
			questions["http"] = question{client, both.String() + "/version"}
			questions["https"] = question{client, secure.String() + "/version"}
			questions["unixs"] = question{overSocket, "https://127.0.0.1/version"}
		}
		for what, c := range questions {
			if code, body := get(t, c.client, c.url); code != http.StatusOK {
				t.Errorf("%s: %d %s", what, code, body)
			}
		}
		if len(n.at.Clients) != 2 {
			t.Errorf("%d doors for clients", len(n.at.Clients))
		}
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestDoorsThatCannotBe are refused in etcd's words.
func TestDoorsThatCannotBe(t *testing.T) {
	for want, spoil := range map[string]func(cfg *Config){
		"TLS key/cert (--cert-file, --key-file) must be provided for client url https://":       func(cfg *Config) { cfg.ClientURLs = anySecure },
		"client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url": func(cfg *Config) { cfg.MetricsURLs = anySecure },
		"cannot listen on TLS for 127.0.0.1:0":                                                  func(cfg *Config) { cfg.PeerURLs = anySecure },
		"cannot bind both --listen-client-urls and --listen-client-http-urls on the same url http://": func(cfg *Config) {
			cfg.ClientURLs = []url.URL{free(t)}
			cfg.HTTPURLs = cfg.ClientURLs
		},
	} {
		cfg := testConfig(t.TempDir())
		spoil(&cfg)
		if n, err := Open(t.Context(), cfg); n != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opened %v: %v, want %q", n, err, want)
		}
	}
}

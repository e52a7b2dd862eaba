package security

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/test/etcd"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// proxied starts a member in the clear and a program's proxy before it.
func proxied(t *testing.T, program string, flags ...string) (member *run.Server, proxy string) {
	t.Helper()
	member, err := run.Start(t.Context(), run.Config{Binary: run.Holdfast(t), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Kill)
	flags = append([]string{"--endpoints", "http://" + member.Client}, flags...) // etcd asks for metrics as it was asked unless it is told
	return member, run.Beside{Program: program, Kind: "grpc-proxy", Flags: flags}.Start(t)
}

// refused tells whether a call fails because there is no connection to be had.
func refused(t *testing.T, address string, cfg *tls.Config) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	return status.Code(put(ctx, dialTo(t, address, cfg), "refused")) == codes.Unavailable
}

// shown is the certificate that a server shows to a client.
func shown(t *testing.T, address string, cfg *tls.Config) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// TestProxyAutoTLS: a proxy that is told to makes a certificate for as many years as it is told, shows it to clients and speaks
// nothing else.
func TestProxyAutoTLS(t *testing.T) {
	anybody := &tls.Config{InsecureSkipVerify: true}
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			member, proxy := proxied(t, program, "--auto-tls", "--self-signed-cert-validity", "3", "--data-dir", data)
			if err := put(t.Context(), dialTo(t, proxy, anybody), "k"); err != nil || !holds(t, member, "k") {
				t.Errorf("put over TLS: %v", err)
			}
			if !refused(t, proxy, nil) {
				t.Error("a client without TLS is served")
			}
			cert := shown(t, proxy, anybody)
			if got, want := cert.NotAfter, cert.NotBefore.Add(3*365*24*time.Hour); !got.Equal(want) {
				t.Errorf("it holds until %v, wanted %v", got, want)
			}
			if _, err := os.Stat(filepath.Join(data, "fixtures", "proxy", "cert.pem")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestProxyRevoked: a proxy with certificates and a list of revoked ones lets in whom the authority vouches for and nobody else; so does
// its port for metrics, with https, while one with http asks for nothing. Revoked is who is on the list now.
func TestProxyRevoked(t *testing.T) {
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			p := newParty(t)
			good, bad := p.ca.Issue(t, tlstest.Leaf{Name: "good", ClientOnly: true}), p.ca.Issue(t, tlstest.Leaf{Name: "bad", ClientOnly: true})
			tlstest.Write(t, p.path("crl"), p.ca.Revoke(t, bad))
			metrics := etcd.FreeAddress(t)
			flags := []string{"--cert-file", p.path("server.pem"), "--key-file", p.path("server-key.pem"),
				"--trusted-ca-file", p.path("ca.pem"), "--client-crl-file", p.path("crl")}
			member, proxy := proxied(t, program, append(flags, "--metrics-addr", "https://"+metrics)...)
			if err := put(t.Context(), dialTo(t, proxy, p.configOf(good, p.ca)), "k"); err != nil || !holds(t, member, "k") {
				t.Errorf("put with a certificate: %v", err)
			}
			nobody := &tls.Config{RootCAs: tlstest.Pool(p.ca), ServerName: "127.0.0.1"}
			for who, cfg := range map[string]*tls.Config{"revoked": p.configOf(bad, p.ca), "without a certificate": nobody, "in the clear": nil} {
				if !refused(t, proxy, cfg) {
					t.Errorf("a client %s is served", who)
				}
				if code := statusAt(t, metrics, cfg, "/proxy/metrics"); code == http.StatusOK {
					t.Errorf("metrics for a client %s", who)
				}
			}
			for _, path := range []string{"/health", "/metrics", "/proxy/health", "/proxy/metrics"} {
				if code := statusAt(t, metrics, p.configOf(good, p.ca), path); code != http.StatusOK {
					t.Errorf("%s on the port for metrics: %d", path, code)
				}
			}
			tlstest.Write(t, p.path("crl"), p.ca.Revoke(t, good))
			if !refused(t, proxy, p.configOf(good, p.ca)) {
				t.Error("a client is served that was revoked meanwhile")
			}
			plain := etcd.FreeAddress(t)
			proxied(t, program, append(flags, "--metrics-addr", "http://"+plain)...)
			if code := statusAt(t, plain, nil, "/proxy/metrics"); code != http.StatusOK {
				t.Errorf("metrics in the clear: %d", code)
			}
		})
	}
}

// statusAt is how a question over HTTP is answered; 0 is no answer. A nil config is plaintext.
func statusAt(t *testing.T, address string, cfg *tls.Config, path string) int {
	t.Helper()
	url := "http://" + address + path
	if cfg != nil {
		url = "https://" + address + path
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: callTimeout}
	r, err := client.Get(url)
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	return r.StatusCode
}

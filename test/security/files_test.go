package security

import (
	"context"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// TestB15SwappedFilesAreNamed starts a member with the TLS flags of a widely copied guide, in which three files are swapped, and
// with the files as they were meant. The first is refused in sentences that name flags and files; the second serves.
func TestB15SwappedFilesAreNamed(t *testing.T) {
	p := newParty(t)
	p.ca.Issue(t, tlstest.Leaf{Name: "etcd-client", ClientOnly: true}).Files(t, p.dir, "client")
	flags := func(ca, cert, key string) []string {
		return []string{"--peer-auto-tls", "--client-cert-auth", "--trusted-ca-file=" + p.path(ca), "--cert-file=" + p.path(cert), "--key-file=" + p.path(key)}
	}
	data := t.TempDir()
	cmd := exec.CommandContext(t.Context(), run.Holdfast(t), append(flags("client.pem", "ca.pem", "client-key.pem"),
		"--data-dir="+data, "--listen-client-urls=https://127.0.0.1:0", "--advertise-client-urls=https://127.0.0.1:1",
		"--listen-peer-urls=https://127.0.0.1:0", "--initial-advertise-peer-urls=https://127.0.0.1:2", "--initial-cluster=default=https://127.0.0.1:2")...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("it started: %s", out)
	}
	for _, want := range []string{
		"--trusted-ca-file " + p.path("client.pem") + " is not a CA", "CN=etcd-client",
		"--cert-file " + p.path("ca.pem") + ", --key-file " + p.path("client-key.pem") + ": cert and key do not match", "CN=first), which is a CA",
		"seems to be swapped with the one in --cert-file",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it did not say %q:\n%s", want, out)
		}
	}
	p.startAs(run.Config{TLS: p.me.Load(), SecurePeers: true, Args: flags("ca.pem", "server.pem", "server-key.pem")})
	if info := read(t, p.Data+"/fixtures/peer/cert.pem"); !strings.Contains(info, "CERTIFICATE") {
		t.Errorf("no certificate was made for the peer port: %s", info)
	}
}

// TestB16MetricsStayLocal: with TLS and certificates demanded on the client port, health and metrics are served without either on
// a local port of their own.
func TestB16MetricsStayLocal(t *testing.T) {
	p := newParty(t)
	spare, err := run.Place(run.Config{}) // two more free ports
	if err != nil {
		t.Fatal(err)
	}
	p.start("--listen-metrics-urls=http://" + spare.Client + ",https://" + spare.Peer)
	for path, want := range map[string]string{
		"/health": `"health":"true"`, "/metrics": `holdfast_tls_end_timestamp_seconds{flag="trusted-ca-file",subject="CN=first"} 1`,
	} {
		if got := fetch(t.Context(), http.DefaultClient, "http://"+spare.Client+path); !strings.Contains(got, want) {
			t.Errorf("%s: %.200s", path, got)
		}
		own := &http.Client{Transport: &http.Transport{TLSClientConfig: p.me.Load()}}
		if got := fetch(t.Context(), own, "https://"+spare.Peer+path); !strings.Contains(got, want) {
			t.Errorf("https %s: %.200s", path, got)
		}
		own.CloseIdleConnections()
	}
	bare := p.me.Load().Clone()
	bare.Certificates = nil
	stranger := &http.Client{Transport: &http.Transport{TLSClientConfig: bare}}
	for _, at := range []string{p.Client, spare.Peer} {
		if got := fetch(t.Context(), stranger, "https://"+at+"/health"); !strings.Contains(got, "certificate required") {
			t.Errorf("%s without a certificate: %s", at, got)
		}
	}
}

// fetch returns the body, or the error as text.
func fetch(ctx context.Context, c *http.Client, url string) string {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	r, err := c.Do(q)
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

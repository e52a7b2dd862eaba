package tlsconf

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"

	"holdfast/tlsconf/tlstest"
)

// TestFilesTakeEffect replaces each file and expects the next handshake to go by it, on a side that stays as it is.
func TestFilesTakeEffect(t *testing.T) {
	p := newPlace(t)
	p.CRLFile = p.path("crl")
	tlstest.Write(t, p.CRLFile, p.ca.Revoke(t))
	s := p.open()
	alice, bob := p.issue("alice"), p.issue("bob")
	first := accepts(t, s, p.client(alice))

	p.ca.Issue(t, tlstest.Leaf{Name: "next", Hosts: []string{"localhost"}}).Files(t, p.dir, "server")
	if next := accepts(t, s, p.client(alice)); next.Equal(first) || next.Subject.CommonName != "next" {
		t.Fatalf("shown %s", next.Subject)
	}

	tlstest.Write(t, p.CRLFile, p.ca.RevokePEM(t, alice))
	refuses(t, s, p.client(alice), "revoked")
	accepts(t, s, p.client(bob))
	tlstest.Write(t, p.CRLFile, p.ca.Revoke(t))
	accepts(t, s, p.client(alice))

	other := tlstest.NewCA(t, "other")
	carol := other.Issue(t, tlstest.Leaf{Name: "carol"})
	refuses(t, s, p.client(carol), "unknown authority")
	tlstest.Write(t, p.TrustedCAFile, append(p.ca.CertPEM(), other.CertPEM()...))
	accepts(t, s, p.client(carol))
	accepts(t, s, p.client(alice))
	tlstest.Write(t, p.TrustedCAFile, other.CertPEM())
	accepts(t, s, p.client(carol))
	refuses(t, s, p.client(alice), "unknown authority")
	if got := s.Stats(); got.Reloads != 5 || got.Failures != 3 {
		t.Errorf("%+v", got)
	}
}

// TestWrittenInPlaceTwice: a file may change twice within one tick of the clock that stamps it, without changing its size.
func TestWrittenInPlaceTwice(t *testing.T) {
	p := newPlace(t)
	p.CRLFile = p.path("crl")
	alice, bob := p.issue("alice"), p.issue("bob")
	for range 20 {
		for _, revoked := range []*tlstest.Pair{alice, bob} {
			if err := os.WriteFile(p.CRLFile, p.ca.Revoke(t, revoked), 0o600); err != nil {
				t.Fatal(err)
			}
			if s := p.open(); s.crl.value.serials[serial(revoked.Cert.SerialNumber)] {
				other := map[*tlstest.Pair]*tlstest.Pair{alice: bob, bob: alice}[revoked]
				if err := os.WriteFile(p.CRLFile, p.ca.Revoke(t, other), 0o600); err != nil {
					t.Fatal(err)
				}
				if s.refresh(); !s.crl.value.serials[serial(other.Cert.SerialNumber)] {
					t.Fatal("a change was not seen")
				}
			}
		}
	}
}

// TestBrokenFilesChangeNothing writes a certificate without its key, half a CA file, no CRL: handshakes go on as before, the log
// says so, and good files are taken over afterwards.
func TestBrokenFilesChangeNothing(t *testing.T) {
	p := newPlace(t)
	p.CRLFile = p.path("crl")
	alice, bob := p.issue("alice"), p.issue("bob")
	tlstest.Write(t, p.CRLFile, p.ca.Revoke(t, bob))
	s := p.open()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	before := accepts(t, s, p.client(alice))

	next := p.ca.Issue(t, tlstest.Leaf{Name: "next", Hosts: []string{"localhost"}})
	tlstest.Write(t, p.CertFile, next.CertPEM())
	tlstest.Write(t, p.TrustedCAFile, p.ca.CertPEM()[:100])
	if err := os.Remove(p.CRLFile); err != nil {
		t.Fatal(err)
	}
	if now := accepts(t, s, p.client(alice)); !now.Equal(before) {
		t.Fatalf("shown %s", now.Subject)
	}
	refuses(t, s, p.client(bob), "revoked")
	refuses(t, s, p.client(tlstest.NewCA(t, "x").Issue(t, tlstest.Leaf{})), "unknown authority")
	eventually(t, "three warnings", func() bool { return strings.Count(p.said.String(), "cannot be used") == 3 })
	for _, want := range []string{"cert and key do not match", "--trusted-ca-file", "no such file"} {
		if !strings.Contains(p.said.String(), want) {
			t.Errorf("log without %q: %s", want, p.said.String())
		}
	}
	tlstest.Write(t, p.KeyFile, next.KeyPEM(t))
	if now := accepts(t, s, p.client(alice)); !now.Equal(next.Cert) {
		t.Fatalf("shown %s", now.Subject)
	}
}

// TestRevoked looks at the whole chain: a certificate, one between it and the root that is shown, and one that is not shown
// because the server has it; and at sessions that are taken up again.
func TestRevoked(t *testing.T) {
	p := newPlace(t)
	p.CRLFile = p.path("crl")
	tlstest.Write(t, p.CRLFile, p.ca.Revoke(t))
	between := p.ca.CA(t, "between")
	alice := between.Issue(t, tlstest.Leaf{Name: "alice"})
	alone := &tlstest.Pair{Cert: alice.Cert, Key: alice.Key}
	tlstest.Write(t, p.TrustedCAFile, append(p.ca.CertPEM(), between.CertPEM()...))
	for _, protocol := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p.MaxVersion = protocol
		s := p.open()
		returning := p.client(alice)
		returning.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		accepts(t, s, returning)
		accepts(t, s, p.client(alone))
		before := s.Stats().Failures
		tlstest.Write(t, p.CRLFile, between.Revoke(t, alice))
		refuses(t, s, p.client(alice), "revoked")
		refuses(t, s, returning, "revoked")
		tlstest.Write(t, p.CRLFile, p.ca.Revoke(t, between))
		refuses(t, s, p.client(alice), "revoked")
		refuses(t, s, returning, "revoked")
		if got := s.Stats().Failures - before; got != 4 {
			t.Errorf("%d failures counted", got)
		}
		// "between" is in the pool as an authority of its own: its word alone makes the certificate valid, and only the list of
		// the root says that it was revoked.
		refuses(t, s, p.client(alone), "revoked")
		tlstest.Write(t, p.CRLFile, p.ca.Revoke(t))
		accepts(t, s, p.client(alone))
	}
}

// TestSessionOfRemovedCA: a session of a client whose authority was removed is not taken up again.
func TestSessionOfRemovedCA(t *testing.T) {
	p := newPlace(t)
	s := p.open()
	returning := p.client(p.issue("alice"))
	returning.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	accepts(t, s, returning)
	tlstest.Write(t, p.TrustedCAFile, tlstest.NewCA(t, "next").CertPEM())
	refuses(t, s, returning, "unknown authority")
}

// TestAllowedNames goes by names in both directions.
func TestAllowedNames(t *testing.T) {
	for _, c := range []struct {
		cns, hosts []string
		good, bad  tlstest.Leaf
	}{
		{[]string{"a", "server"}, nil, tlstest.Leaf{Name: "a"}, tlstest.Leaf{Name: "b", Hosts: []string{"a"}}},
		{nil, []string{"a.example", "localhost"}, tlstest.Leaf{Hosts: []string{"a.example"}}, tlstest.Leaf{Name: "a.example", Hosts: []string{"b.example"}}},
	} {
		p := newPlace(t)
		p.AllowedCNs, p.AllowedHostnames = c.cns, c.hosts
		s := p.open()
		accepts(t, s, p.client(p.ca.Issue(t, c.good)))
		refuses(t, s, p.client(p.ca.Issue(t, c.bad)), "client certificate authentication failed")
		accepts(t, s, s.Client("127.0.0.1")) // our own has the names, too
		c.bad.Hosts = append(c.bad.Hosts, "127.0.0.1")
		p.ca.Issue(t, c.bad).Files(t, p.dir, "server") // now our own is one of those
		if _, _, client := meet(t, s, s.Client("127.0.0.1")); client == nil || !strings.Contains(client.Error(), "authentication failed") {
			t.Errorf("connected to a server whose name is not allowed: %v", client)
		}
	}
}

// TestDialing checks the host, the authority and the list of revoked certificates, and shows the client's certificate.
func TestDialing(t *testing.T) {
	p := newPlace(t)
	p.CRLFile = p.path("crl")
	tlstest.Write(t, p.CRLFile, p.ca.Revoke(t))
	p.ClientCertFile, p.ClientKeyFile = p.issue("me").Files(t, p.dir, "me")
	s := p.open()
	own := accepts(t, s, s.Client("127.0.0.1"))
	if _, _, client := meet(t, s, s.Client("127.0.0.2")); client == nil || !strings.Contains(client.Error(), "127.0.0.2") {
		t.Errorf("connected to another host: %v", client)
	}
	tlstest.Write(t, p.CRLFile, p.ca.Revoke(t, &tlstest.Pair{Cert: own}))
	if _, _, client := meet(t, s, s.Client("127.0.0.1")); client == nil || !strings.Contains(client.Error(), "revoked") {
		t.Errorf("connected to a server whose certificate was revoked: %v", client)
	}
	p.ServerName = "localhost"
	tlstest.Write(t, p.CRLFile, p.ca.Revoke(t))
	accepts(t, p.open(), p.open().Client("127.0.0.2"))
}

// TestVersionsAndSuites: what is not offered is not spoken, in either direction.
func TestVersionsAndSuites(t *testing.T) {
	p := newPlace(t)
	p.MaxVersion, p.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	s := p.open()
	alice := p.issue("alice")
	old := p.client(alice)
	old.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	refuses(t, s, old, "no cipher suite supported")
	modern := p.client(alice)
	modern.MinVersion = tls.VersionTLS13
	refuses(t, s, modern, "unsupported versions")
	accepts(t, s, p.client(alice))
	p.MinVersion, p.MaxVersion, p.CipherSuites = 0, 0, nil
	s = p.open()
	ancient := p.client(alice)
	ancient.MinVersion, ancient.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	refuses(t, s, ancient, "unsupported versions")
	if cfg := s.Client("x"); cfg.MinVersion != tls.VersionTLS12 || cfg.ServerName != "x" {
		t.Errorf("connects with at least %x to %s", cfg.MinVersion, cfg.ServerName)
	}
}

// names is a DNS of two addresses.
type names struct{}

func (names) LookupAddr(_ context.Context, addr string) ([]string, error) {
	return map[string][]string{"10.0.0.1": {"one.example."}}[addr], nil
}

func (names) LookupHost(_ context.Context, host string) ([]string, error) {
	if host == "two.example" {
		return []string{"10.0.0.2"}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host}
}

// TestAddress holds a certificate's names against the address it comes from.
func TestAddress(t *testing.T) {
	ca := tlstest.NewCA(t, "root")
	for _, c := range []struct {
		hosts []string
		from  string
		ok    bool
	}{
		{nil, "10.0.0.9", true},
		{[]string{"10.0.0.9"}, "10.0.0.9", true},
		{[]string{"10.0.0.8"}, "10.0.0.9", false},
		{[]string{"one.example"}, "10.0.0.1", true},
		{[]string{"*.example"}, "10.0.0.1", true},
		{[]string{"*.ample"}, "10.0.0.1", false},
		{[]string{"two.example"}, "10.0.0.2", true},
		{[]string{"two.example"}, "10.0.0.1", false},
		{[]string{"10.0.0.8", "one.example"}, "10.0.0.1", true},
		{[]string{"none.example"}, "10.0.0.1", false},
	} {
		cert := ca.Issue(t, tlstest.Leaf{Hosts: c.hosts}).Cert
		err := checkAddress(t.Context(), names{}, cert, &net.TCPAddr{IP: net.ParseIP(c.from), Port: 1})
		if (err == nil) != c.ok {
			t.Errorf("%v from %s: %v", c.hosts, c.from, err)
		}
	}
}

package tlsconf

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/tlsconf/tlstest"
)

// TestNamesWhatIsWrong opens sides with files that are missing, swapped or broken, and expects the flag and the reason.
func TestNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(p *place)
		want  []string
	}{
		"a leaf as CA": {func(p *place) { p.TrustedCAFile = p.CertFile },
			[]string{"--trusted-ca-file", "server.pem is not a CA", "CN=server"}},
		"all three swapped": {func(p *place) { // as in a widely copied guide
			cert, key := p.issue("client").Files(p.t, p.dir, "client")
			p.TrustedCAFile, p.CertFile, p.KeyFile = cert, p.TrustedCAFile, key
		}, []string{"--trusted-ca-file", "client.pem is not a CA", "cert and key do not match", "CN=root", "which is a CA", "seems to be swapped"}},
		"another key": {func(p *place) { _, p.KeyFile = p.issue("other").Files(p.t, p.dir, "other") },
			[]string{"--cert-file", "--key-file", "other-key.pem: cert and key do not match", "CN=server"}},
		"key and certificate swapped": {func(p *place) { p.CertFile, p.KeyFile = p.KeyFile, p.CertFile },
			[]string{"--cert-file", "server-key.pem holds a private key and no certificate", "may be swapped with --key-file"}},
		"certificate as key": {func(p *place) { p.KeyFile = p.CertFile }, []string{"--key-file", "holds a certificate and no private key"}},
		"key as CA":          {func(p *place) { p.TrustedCAFile = p.KeyFile }, []string{"--trusted-ca-file", "holds a private key and no certificate"}},
		"no file":            {func(p *place) { p.KeyFile = p.path("none") }, []string{"--cert-file, --key-file: ", "no such file"}},
		"no CA file":         {func(p *place) { p.TrustedCAFile = p.path("none") }, []string{"--trusted-ca-file: ", "no such file"}},
		"half of a pair":     {func(p *place) { p.KeyFile = "" }, []string{"--cert-file and --key-file must both be given"}},
		"half of the other":  {func(p *place) { p.ClientCertFile = p.CertFile }, []string{"--client-cert-file and --client-key-file must both"}},
		"nothing in it": {func(p *place) { tlstest.Write(p.t, p.TrustedCAFile, []byte("\n")) },
			[]string{"--trusted-ca-file", "holds no certificate in PEM form"}},
		"a certificate as CRL": {func(p *place) { p.CRLFile = p.CertFile }, []string{"--client-crl-file", "holds no list of revoked certificates"}},
		"nonsense as CRL": {func(p *place) {
			p.CRLFile = p.path("crl")
			tlstest.Write(p.t, p.CRLFile, []byte("nonsense"))
		}, []string{"--client-crl-file", "is no list of revoked certificates"}},
		"two kinds of names": {func(p *place) { p.AllowedCNs, p.AllowedHostnames = []string{"a"}, []string{"b"} }, []string{"mutually exclusive"}},
		"between members":    {func(p *place) { p.Flag, p.TrustedCAFile = "peer-", p.CertFile }, []string{"--peer-trusted-ca-file", "is not a CA"}},
		"an encrypted key": {func(p *place) {
			tlstest.Write(p.t, p.KeyFile, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
		}, []string{"--key-file", "is encrypted"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			c.spoil(p)
			_, err := Open(p.Options)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("error %v, want %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "PRIVATE KEY") {
				t.Fatalf("a key in the error: %v", err)
			}
		})
	}
}

// TestOddFilesAreWarnedOf: what may work is said, not refused.
func TestOddFilesAreWarnedOf(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(p *place)
		want  string
	}{
		"a CA as certificate": {func(p *place) { p.CertFile, p.KeyFile = p.ca.Files(p.t, p.dir, "ca") }, "it is the certificate of a CA"},
		"a client's":          {func(p *place) { p.CertFile, p.KeyFile = p.issue("c").Files(p.t, p.dir, "c") }, "not meant to be shown by a server"},
		"a server's for members": {func(p *place) {
			p.Flag = "peer-"
			p.CertFile, p.KeyFile = p.ca.Issue(p.t, tlstest.Leaf{Name: "s", ServerOnly: true}).Files(p.t, p.dir, "s")
		}, "other members will refuse it"},
		"of another CA": {func(p *place) {
			p.Flag = "peer-"
			p.TrustedCAFile, _ = tlstest.NewCA(p.t, "stranger").Files(p.t, p.dir, "stranger")
		}, "no authority in --peer-trusted-ca-file vouches for it"},
		"a leaf among CAs": {func(p *place) {
			tlstest.Write(p.t, p.TrustedCAFile, append(read(p.t, p.TrustedCAFile), p.issue("leaf").CertPEM()...))
		}, "one of its certificates is not a CA"},
		"nobody asked": {func(p *place) { p.TrustedCAFile, p.AllowedCNs = "", []string{"x"} }, "show no certificates"},
		"a stranger's CRL": {func(p *place) {
			p.CRLFile = p.path("crl")
			tlstest.Write(p.t, p.CRLFile, tlstest.NewCA(p.t, "stranger").Revoke(p.t))
		}, "has signed this list"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			c.spoil(p)
			p.open()
			if !strings.Contains(p.said.String(), c.want) {
				t.Fatalf("log %s, want %q", p.said.String(), c.want)
			}
		})
	}
	p := newPlace(t)
	p.open()
	if got := p.said.String(); got != "" {
		t.Fatalf("good files gave %s", got)
	}
}

// TestSelfSignedLeafIsTrusted: a certificate that vouches for itself may be listed, CA or not.
func TestSelfSignedLeafIsTrusted(t *testing.T) {
	p := newPlace(t)
	self := tlstest.SelfSigned(t, tlstest.Leaf{Name: "self"})
	p.TrustedCAFile, _ = self.Files(t, p.dir, "self")
	s := p.open()
	accepts(t, s, p.client(self))
	refuses(t, s, p.client(p.issue("other")), "unknown authority")
}

// TestSelfSigned makes certificates under etcd's names, keeps them, and replaces those that have ended.
func TestSelfSigned(t *testing.T) {
	p := newPlace(t)
	make := SelfSigned{Dir: p.path("fixtures/peer"), Hosts: []string{"127.0.0.1:1", "localhost:1", "/a/socket"}, Years: 1, Now: p.Now, Log: p.Log}
	cert, key, err := make.Make()
	if err != nil || cert != p.path("fixtures/peer/cert.pem") || key != p.path("fixtures/peer/key.pem") {
		t.Fatal(cert, key, err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	first := read(t, cert)
	p.Options = Options{Flag: "peer-", CertFile: cert, KeyFile: key, AnyServer: true, Now: p.Now, Log: p.Log}
	s := p.open()
	saw := accepts(t, s, s.Client("nowhere"))
	if len(saw.DNSNames) != 1 || len(saw.IPAddresses) != 1 || saw.NotAfter.Sub(saw.NotBefore) != selfSignedYear {
		t.Fatalf("made for %v %v, %v to %v", saw.DNSNames, saw.IPAddresses, saw.NotBefore, saw.NotAfter)
	}
	if _, _, err := make.Make(); err != nil || string(read(t, cert)) != string(first) {
		t.Fatalf("made again: %v", err)
	}
	p.now = time.Now().Add(selfSignedYear + time.Hour)
	if _, _, err := make.Make(); err != nil || string(read(t, cert)) == string(first) {
		t.Fatalf("kept although it has ended: %v", err)
	}
	make.Years = 0
	if _, _, err := make.Make(); err == nil {
		t.Fatal("made for no time")
	}
}

// TestEndsAreSaid: what ends is warned of ahead, once a day, and told by Stats.
func TestEndsAreSaid(t *testing.T) {
	p := newPlace(t)
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	end := begin.Add(300 * 24 * time.Hour)
	p.ca.Issue(t, tlstest.Leaf{Name: "long", Hosts: []string{"localhost"}, Begin: begin, End: end}).Files(t, p.dir, "server")
	p.TrustedCAFile = ""
	p.now = end.Add(-31 * 24 * time.Hour)
	s := p.open()
	if f := s.Stats().Files; len(f) != 1 || !f[0].End.Equal(end) || f[0].Flag != "--cert-file" {
		t.Fatalf("%+v", f)
	}
	said := func() int { s.warnOfEnds(); return strings.Count(p.said.String(), "ends soon") }
	if said() != 0 {
		t.Fatal("too early")
	}
	p.now = end.Add(-29 * 24 * time.Hour)
	for range 2 {
		if said() != 1 {
			t.Fatal(p.said.String())
		}
	}
	p.now = p.now.Add(25 * time.Hour)
	if said() != 2 {
		t.Fatal(p.said.String())
	}
	p.now = end.Add(time.Hour)
	if said(); !strings.Contains(p.said.String(), "not valid any more") {
		t.Fatal(p.said.String())
	}
}

// TestPublishedAuthorityIsWarnedOf: an authority whose key everybody can read vouches for everybody.
func TestPublishedAuthorityIsWarnedOf(t *testing.T) {
	p := newPlace(t)
	sum := sha256.Sum256(p.ca.Cert.RawSubjectPublicKeyInfo)
	name := hex.EncodeToString(sum[:])
	published[name] = "a test"
	defer delete(published, name)
	p.open()
	if got := p.said.String(); !strings.Contains(got, "its private key is public (a test)") {
		t.Fatalf("log %s", got)
	}
	if Published(p.issue("other").Cert) != "" {
		t.Fatal("another key is said to be public")
	}
}

// Package tlstest makes authorities, certificates and revocation lists for tests.
//
//	Units   what it makes holds from an hour ago for a day, unless the test says otherwise
//	Errors  end the test
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Pair is a certificate and its key.
type Pair struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
	// Above are those that vouch for it and go with it, without the root.
	Above []*Pair
}

// Leaf says what a certificate is for.
type Leaf struct {
	Name       string   // common name
	Hosts      []string // names and addresses
	ClientOnly bool     // not for servers
	ServerOnly bool     // not for clients
	Begin, End time.Time
}

// NewCA makes a root.
func NewCA(t testing.TB, name string) *Pair {
	t.Helper()
	return sign(t, nil, authority(name))
}

// CA makes an authority below p.
func (p *Pair) CA(t testing.TB, name string) *Pair {
	t.Helper()
	return sign(t, p, authority(name))
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
}

// SelfSigned makes a certificate that vouches for itself and is no authority.
func SelfSigned(t testing.TB, l Leaf) *Pair {
	t.Helper()
	return (*Pair)(nil).Issue(t, l)
}

// Issue makes a certificate that is for servers and clients, unless it says otherwise.
func (p *Pair) Issue(t testing.TB, l Leaf) *Pair {
	t.Helper()
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: l.Name}, NotBefore: l.Begin, NotAfter: l.End, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if !l.ClientOnly {
		c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if !l.ServerOnly {
		c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, host := range l.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	return sign(t, p, c)
}

func sign(t testing.TB, by *Pair, c *x509.Certificate) *Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64)); err != nil {
		t.Fatal(err)
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = c.NotBefore.Add(25 * time.Hour)
	}
	p := &Pair{Key: key}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.Cert, by.Key
		if by.Cert.Issuer.String() != by.Cert.Subject.String() {
			p.Above = append([]*Pair{by}, by.Above...)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if p.Cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return p
}

// CertPEM is the certificate with those that vouch for it.
func (p *Pair) CertPEM() []byte {
	text := encode("CERTIFICATE", p.Cert.Raw)
	for _, above := range p.Above {
		text = append(text, encode("CERTIFICATE", above.Cert.Raw)...)
	}
	return text
}

// KeyPEM is the key.
func (p *Pair) KeyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return encode("PRIVATE KEY", der)
}

// Files writes name.pem and name-key.pem.
func (p *Pair) Files(t testing.TB, dir, name string) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	Write(t, cert, p.CertPEM())
	Write(t, key, p.KeyPEM(t))
	return cert, key
}

// Revoke makes a list of certificates of p that were revoked, in DER.
func (p *Pair) Revoke(t testing.TB, revoked ...*Pair) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.Cert.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// RevokePEM is Revoke as text.
func (p *Pair) RevokePEM(t testing.TB, revoked ...*Pair) []byte {
	t.Helper()
	return encode("X509 CRL", p.Revoke(t, revoked...))
}

// Write puts a file in place in one step.
func Write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Pool holds authorities.
func Pool(of ...*Pair) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, p := range of {
		pool.AddCert(p.Cert)
	}
	return pool
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

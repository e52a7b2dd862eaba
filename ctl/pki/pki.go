// Package pki makes what a cluster with TLS needs, an authority and the certificates of servers, peers and clients, and says
// what is wrong with such files.
//
//	Shape   NAME.pem      the certificate, 0644
//	        NAME-key.pem  its private key, PKCS #8, 0600; never written over
//	Units   validity in days, rounded down to what is left of the authority's
//	Errors  ErrExists; others name the file that is not what it should be
//	Source  RFC 5280; etcd 3.7 for who shows which certificate to whom; CA/Browser Forum for 20-byte serial numbers
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/tlsconf"
)

// Kind is what a certificate is for.
type Kind string

// The kinds. A server's and a peer's may also be shown by a client: members connect to each other with theirs, and etcd's
// gateway connects to its own server with the server's.
const (
	CA     Kind = "ca"
	Server Kind = "server"
	Peer   Kind = "peer"
	Client Kind = "client"
)

// Defaults. Members take new certificates over without a restart, so short lives cost little.
const (
	CADays   = 3650
	LeafDays = 365
)

// backdated is how long before now a certificate begins, for machines whose clocks are behind.
const backdated = 5 * time.Minute

// Request says what to make.
type Request struct {
	Kind Kind
	// CommonName is the authority's name, and the user that a client logs in as where authentication is on.
	CommonName string
	// Hosts are names and addresses of a server or a peer. URLs and host:port count as their hosts.
	Hosts []string
	Days  int
	Now   time.Time
}

// Authority signs.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Made is a new certificate.
type Made struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
	// Shortened says that it ends with its authority, before the days that were asked for.
	Shortened bool
}

// ReadAuthority reads what signs, and refuses what may not.
func ReadAuthority(certFile, keyFile string, now time.Time) (*Authority, error) {
	pair, err := tlsconf.ReadPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	cert := pair.Leaf
	switch {
	case !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("%s is not a CA: its certificate (%s) may not sign others; make one with: pki ca", certFile, cert.Subject)
	case now.After(cert.NotAfter):
		return nil, fmt.Errorf("the authority in %s has ended on %s; make another with: pki ca", certFile, cert.NotAfter.UTC().Format(time.DateOnly))
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the key in %s cannot sign", keyFile)
	}
	return &Authority{cert, key}, nil
}

// Make makes a certificate; by is nil for an authority, which vouches for itself.
func Make(r Request, by *Authority) (*Made, error) {
	c, err := r.template()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	made := &Made{Key: key}
	parent, signer := c, crypto.Signer(key)
	if r.Kind != CA {
		parent, signer = by.Cert, by.Key
		if c.NotAfter.After(by.Cert.NotAfter) {
			c.NotAfter, made.Shortened = by.Cert.NotAfter, true
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	made.Cert, err = x509.ParseCertificate(der)
	return made, err
}

func (r Request) template() (*x509.Certificate, error) {
	if r.Days <= 0 {
		return nil, fmt.Errorf("a certificate holds for at least one day, not %d", r.Days)
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159)) // 20 bytes, the first bit 0: positive
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	c := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: r.CommonName}, BasicConstraintsValid: true,
		NotBefore: r.Now.Add(-backdated), NotAfter: r.Now.Add(time.Duration(r.Days) * 24 * time.Hour),
	}
	switch r.Kind {
	case CA:
		c.IsCA, c.MaxPathLenZero, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	case Client:
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case Server, Peer:
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		if err := addHosts(c, r.Hosts); err != nil {
			return nil, err
		}
	}
	if c.Subject.CommonName == "" {
		return nil, fmt.Errorf("a %s certificate needs a name", r.Kind)
	}
	return c, nil
}

// addHosts makes a certificate that of its hosts. The first one is its name, unless it has one.
func addHosts(c *x509.Certificate, given []string) error {
	if len(given) == 0 {
		return errors.New("name at least one host or address under which others connect")
	}
	for _, text := range given {
		host, err := hostOf(text)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); ip != nil {
			if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
				c.IPAddresses = append(c.IPAddresses, ip)
			}
		} else if !slices.Contains(c.DNSNames, host) {
			c.DNSNames = append(c.DNSNames, host)
		}
		if c.Subject.CommonName == "" {
			c.Subject.CommonName = host
		}
	}
	return nil
}

// hostOf is the host of a URL, of host:port, or of itself.
func hostOf(text string) (string, error) {
	host := text
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil {
			return "", err
		}
		host = u.Hostname()
	} else if h, _, err := net.SplitHostPort(text); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "" || strings.ContainsAny(host, " /,=:") && net.ParseIP(host) == nil {
		return "", fmt.Errorf("%q is no host: give names, addresses or URLs, one an argument", text)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return "", fmt.Errorf("%q is no address that others connect to: name the one that is advertised", text)
	}
	return host, nil
}

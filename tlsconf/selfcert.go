package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// SelfSigned says what a member makes for itself when it is told to use TLS without files.
type SelfSigned struct {
	Dir   string   // is made if it is missing, and holds cert.pem and key.pem afterwards
	Hosts []string // host:port, whose hosts the certificate is for
	Years uint     // how long it holds
	Now   func() time.Time
	Log   *slog.Logger
}

// selfSignedYear is etcd's.
const selfSignedYear = 365 * 24 * time.Hour

// Make returns the files of a certificate and its key, which it makes unless there are some that have not ended. Their names
// and kinds are etcd's, which can take them over.
func (c SelfSigned) Make() (certFile, keyFile string, err error) {
	if c.Years == 0 {
		return "", "", errors.New("--self-signed-cert-validity must be greater than 0")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return "", "", fmt.Errorf("place certificates: %w", err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	there, err := c.kept(certFile, keyFile)
	if err != nil || there {
		return certFile, keyFile, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("place certificates: %w", err)
	}
	if err := c.write(certFile, keyFile); err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	return certFile, keyFile, nil
}

// kept tells whether there is a certificate to go on with.
func (c SelfSigned) kept(certFile, keyFile string) (bool, error) {
	content, err := os.ReadFile(certFile)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the certificate made earlier: %w", err)
	}
	if _, err := os.Stat(keyFile); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	certs, err := certificates(certFile, content)
	if err != nil {
		return false, fmt.Errorf("%w: remove it, and another is made", err)
	}
	if c.Now().After(certs[0].NotAfter) {
		c.Log.Warn("the certificate made earlier has ended; another is made", "file", certFile, "until", certs[0].NotAfter)
		return false, nil
	}
	return true, nil
}

func (c SelfSigned) write(certFile, keyFile string) error {
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		return err
	}
	now := c.Now()
	template := x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{Organization: []string{"etcd"}}, NotBefore: now, NotAfter: now.Add(time.Duration(c.Years) * selfSignedYear),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	for _, hostPort := range c.Hosts {
		host, _, err := net.SplitHostPort(hostPort)
		if err != nil {
			continue // the path of a socket
		}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(keyFile, 0o600, "EC PRIVATE KEY", secret); err != nil { // the certificate is what says that both are there
		return err
	}
	if err := writePEM(certFile, 0o644, "CERTIFICATE", cert); err != nil {
		return err
	}
	c.Log.Warn("automatically generate certificates", "certificate-validity-bound-not-after", template.NotAfter, "file", certFile)
	return nil
}

// writePEM writes a file whole or not at all.
func writePEM(path string, mode os.FileMode, kind string, der []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(next, path)
}

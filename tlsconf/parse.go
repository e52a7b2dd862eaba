package tlsconf

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// authorities are the content of a file of CAs.
type authorities struct {
	pool  *x509.CertPool
	certs []*x509.Certificate
}

// signer tells whether cert may sign others, as crypto/x509 sees it.
func signer(cert *x509.Certificate) bool {
	if cert.Version == 3 && !cert.BasicConstraintsValid || cert.BasicConstraintsValid && !cert.IsCA {
		return false
	}
	return cert.KeyUsage == 0 || cert.KeyUsage&x509.KeyUsageCertSign != 0
}

// selfSigned tells whether cert vouches for itself: such a one can be trusted by being listed, CA or not.
func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubject, cert.RawIssuer) &&
		cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// pemTypes are the kinds of blocks in content, and the content of those that are certificates.
func pemBlocks(content []byte) (certs [][]byte, keys, crls int) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			certs = append(certs, block.Bytes)
		case block.Type == "X509 CRL":
			crls++
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			keys++
		}
	}
	return certs, keys, crls
}

// certificates parses the certificates in content. what names the file.
func certificates(what string, content []byte) ([]*x509.Certificate, error) {
	blocks, keys, crls := pemBlocks(content)
	switch {
	case len(blocks) > 0:
	case keys > 0:
		return nil, fmt.Errorf("%s holds a private key and no certificate", what)
	case crls > 0:
		return nil, fmt.Errorf("%s holds a list of revoked certificates and no certificate", what)
	default:
		return nil, fmt.Errorf("%s holds no certificate in PEM form", what)
	}
	var certs []*x509.Certificate
	for i, block := range blocks {
		cert, err := x509.ParseCertificate(block)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d of %d cannot be read: %w", what, i+1, len(blocks), err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// parseAuthorities reads a file of CAs, of which at least one must be able to vouch for somebody.
func parseAuthorities(what string, content []byte) (*authorities, error) {
	certs, err := certificates(what, content)
	if err != nil {
		return nil, err
	}
	a := &authorities{pool: x509.NewCertPool(), certs: certs}
	useful := false
	for _, cert := range certs {
		a.pool.AddCert(cert)
		useful = useful || signer(cert) || selfSigned(cert)
	}
	if !useful {
		return nil, fmt.Errorf("%s is not a CA: its certificate (%s) was issued by another (%s) and cannot vouch for others",
			what, certs[0].Subject, certs[0].Issuer)
	}
	return a, nil
}

// errMismatch says that a key is not that of a certificate.
var errMismatch = errors.New("cert and key do not match")

// parsePair reads a certificate, with those that vouch for it behind it, and its key.
func parsePair(certWhat, keyWhat string, certPEM, keyPEM []byte) (*tls.Certificate, error) {
	certs, err := certificates(certWhat, certPEM)
	if err != nil {
		if _, keys, _ := pemBlocks(certPEM); keys > 0 {
			err = fmt.Errorf("%w: it may be swapped with %s", err, keyWhat)
		}
		return nil, err
	}
	key, err := parseKey(keyWhat, keyPEM)
	if err != nil {
		return nil, err
	}
	if !fits(certs[0], key) {
		err := fmt.Errorf("%s, %s: %w: the key is not that of the certificate (%s)", certWhat, keyWhat, errMismatch, certs[0].Subject)
		if certs[0].IsCA {
			err = fmt.Errorf("%w, which is a CA", err)
		}
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", certWhat, keyWhat, err)
	}
	return &pair, nil
}

// ReadPair reads a certificate and its key. The error names the files, and says which of them is not what it should be.
func ReadPair(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	return parsePair(certFile, keyFile, certPEM, keyPEM)
}

// parseKey finds the first private key in content. No error shows any of it.
func parseKey(what string, content []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("%s holds a private key that is encrypted: nobody is there to type its password", what)
		}
		if key := decodeKey(block.Bytes); key != nil {
			return key, nil
		}
		return nil, fmt.Errorf("%s holds a private key of a kind that cannot be read", what)
	}
	if certs, _, _ := pemBlocks(content); len(certs) > 0 {
		return nil, fmt.Errorf("%s holds a certificate and no private key", what)
	}
	return nil, fmt.Errorf("%s holds no private key in PEM form", what)
}

func decodeKey(der []byte) crypto.Signer {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		signer, _ := key.(crypto.Signer) // nil for keys that cannot sign
		return signer
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	return nil
}

// fits tells whether key is that of cert.
func fits(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}

// parseRevoked reads lists of revoked certificates: one in DER, or any number in PEM.
func parseRevoked(what string, content []byte) ([]*x509.RevocationList, error) {
	ders := [][]byte{content}
	if certs, keys, crls := pemBlocks(content); len(certs)+keys+crls > 0 {
		if ders = nil; crls == 0 {
			return nil, fmt.Errorf("%s holds no list of revoked certificates", what)
		}
		for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "X509 CRL" {
				ders = append(ders, block.Bytes)
			}
		}
	}
	var lists []*x509.RevocationList
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%s is no list of revoked certificates: %w", what, err)
		}
		lists = append(lists, list)
	}
	return lists, nil
}

package tlsconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
)

// Why the other side of a connection is turned away beyond what crypto/tls checks.
var (
	// ErrRevoked says that a certificate, or one that vouches for it, was revoked.
	ErrRevoked = errors.New("the certificate was revoked")
	// ErrNotAllowed says that a certificate has none of the names that are allowed. etcd's words.
	ErrNotAllowed = errors.New("client certificate authentication failed")
	// ErrAddress says that a certificate does not name the address it came from.
	ErrAddress = errors.New("the certificate is not for this address")
)

// revoked are the revocation lists of a side.
type revoked struct {
	lists   []*x509.RevocationList
	serials map[string]bool // of all lists
}

func newRevoked(lists []*x509.RevocationList) *revoked {
	r := &revoked{lists: lists, serials: map[string]bool{}}
	for _, l := range lists {
		for _, e := range l.RevokedCertificateEntries {
			r.serials[serial(e.SerialNumber)] = true
		}
	}
	return r
}

func serial(n *big.Int) string { return n.Text(16) }

// check refuses what was shown if any of it was revoked, by its number alone as in etcd; and if of the chains that make it
// valid none is free of revoked certificates, also those the other side did not show. There the issuer has to be that of the
// list, since authorities count from one.
func (r *revoked) check(cs *tls.ConnectionState) error {
	if r == nil {
		return nil
	}
	for _, cert := range cs.PeerCertificates {
		if r.serials[serial(cert.SerialNumber)] {
			return fmt.Errorf("%w: serial %s (%s)", ErrRevoked, serial(cert.SerialNumber), cert.Subject)
		}
	}
	var bad *x509.Certificate
	for _, chain := range cs.VerifiedChains {
		at := slices.IndexFunc(chain, r.listed)
		if at < 0 {
			return nil
		}
		bad = chain[at]
	}
	if bad == nil {
		return nil
	}
	return fmt.Errorf("%w: serial %s (%s), which vouches for it", ErrRevoked, serial(bad.SerialNumber), bad.Subject)
}

// listed tells whether a list of cert's issuer has cert.
func (r *revoked) listed(cert *x509.Certificate) bool {
	return r.serials[serial(cert.SerialNumber)] && slices.ContainsFunc(r.lists, func(l *x509.RevocationList) bool {
		same := bytes.Equal(l.RawIssuer, cert.RawIssuer) || l.Issuer.String() == cert.Issuer.String()
		return same && slices.ContainsFunc(l.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
			return e.SerialNumber.Cmp(cert.SerialNumber) == 0
		})
	})
}

// allowed checks the names of a certificate that is known to be valid.
func (o *Options) allowed(cs *tls.ConnectionState) error {
	if len(o.AllowedCNs) == 0 && len(o.AllowedHostnames) == 0 {
		return nil
	}
	if len(cs.VerifiedChains) == 0 || len(cs.VerifiedChains[0]) == 0 {
		return ErrNotAllowed
	}
	leaf := cs.VerifiedChains[0][0]
	if slices.Contains(o.AllowedCNs, leaf.Subject.CommonName) ||
		slices.ContainsFunc(o.AllowedHostnames, func(host string) bool { return leaf.VerifyHostname(host) == nil }) {
		return nil
	}
	return fmt.Errorf("%w: the name %q is not allowed", ErrNotAllowed, leaf.Subject.CommonName)
}

// resolver finds out about addresses; net.Resolver does.
type resolver interface {
	LookupAddr(ctx context.Context, addr string) ([]string, error)
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// checkAddress refuses a certificate that names hosts or addresses, none of which is the one it came from. One that names
// none is taken, and so is one from a socket of this machine. etcd's rule.
func checkAddress(ctx context.Context, r resolver, cert *x509.Certificate, remote net.Addr) error {
	if len(cert.IPAddresses) == 0 && len(cert.DNSNames) == 0 || remote.Network() == "unix" {
		return nil
	}
	host, _, err := net.SplitHostPort(remote.String())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	if len(cert.IPAddresses) > 0 {
		err := cert.VerifyHostname(host)
		if err == nil {
			return nil
		}
		if len(cert.DNSNames) == 0 {
			return fmt.Errorf("%w: %w", ErrAddress, err)
		}
	}
	found, err := namesAddress(ctx, r, cert.DNSNames, host)
	if found {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %s is none of %q (%w)", ErrAddress, host, cert.DNSNames, err)
	}
	return fmt.Errorf("%w: %s is none of %q", ErrAddress, host, cert.DNSNames)
}

// namesAddress asks DNS, backwards and forwards, whether one of names, which may begin with "*.", belongs to address.
func namesAddress(ctx context.Context, r resolver, names []string, address string) (bool, error) {
	backwards, err := r.LookupAddr(ctx, address)
	for _, found := range backwards {
		found = strings.TrimSuffix(found, ".")
		for _, name := range names {
			suffix, wild := strings.CutPrefix(name, "*")
			if found == name || wild && strings.HasPrefix(suffix, ".") && strings.HasSuffix(found, suffix) {
				return true, nil
			}
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "*.") {
			continue
		}
		addresses, lookup := r.LookupHost(ctx, name)
		if lookup != nil {
			err = lookup
		}
		if slices.Contains(addresses, address) {
			return true, nil
		}
	}
	return false, err
}

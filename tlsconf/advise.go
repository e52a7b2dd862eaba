package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// isFileError tells errors that name a path, not a flag.
func isFileError(err error) bool {
	var of *fs.PathError
	return errors.As(err, &of)
}

// suspectSwap looks for a key that fits a certificate in another file than the one it was named with.
func (s *Side) suspectSwap() error {
	c := &s.cfg
	content, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return nil // said already
	}
	key, err := parseKey("", content)
	if err != nil || c.CertFile == "" {
		return nil // said already
	}
	if own, err := os.ReadFile(c.CertFile); err == nil {
		if certs, err := certificates("", own); err == nil && fits(certs[0], key) {
			return nil
		}
	}
	for _, other := range []struct{ flag, path string }{{flagCA, c.TrustedCAFile}, {flagClientCert, c.ClientCertFile}} {
		content, err := os.ReadFile(other.path)
		if err != nil {
			continue
		}
		certs, err := certificates("", content)
		if err == nil && slices.ContainsFunc(certs, func(cert *x509.Certificate) bool { return fits(cert, key) }) {
			return fmt.Errorf("%s fits the certificate in %s: it seems to be swapped with the one in %s",
				s.what(flagKey, c.KeyFile), s.what(other.flag, other.path), s.what(flagCert, c.CertFile))
		}
	}
	return nil
}

// advise logs what works, or may work, but is probably not what was meant.
func (s *Side) advise() {
	warn := func(flag, path, why string, cert *x509.Certificate) {
		s.cfg.Log.Warn("check a file of TLS: "+why, "flag", s.cfg.flag(flag), "file", path, "certificate", cert.Subject.String())
	}
	if p := s.pair.value; p != nil {
		s.advisePair(warn, p)
	}
	if p := s.client.value; p != nil && !usable(p.Leaf, x509.ExtKeyUsageClientAuth) {
		warn(flagClientCert, s.cfg.ClientCertFile, "it is not meant to be shown by a client", p.Leaf)
	}
	if a := s.trusted.value; a != nil {
		s.advisePublished(warn)
		for _, cert := range a.certs {
			if !signer(cert) && !selfSigned(cert) {
				warn(flagCA, s.cfg.TrustedCAFile, "one of its certificates is not a CA", cert)
			}
		}
	}
	if !s.cfg.requiresCert() && (s.cfg.CRLFile != "" || len(s.cfg.AllowedCNs)+len(s.cfg.AllowedHostnames) > 0) {
		s.cfg.Log.Warn("those who connect show no certificates, so none is checked", "flag", s.cfg.flag("client-cert-auth"))
	}
	if r := s.crl.value; r != nil && s.trusted.value != nil {
		s.adviseRevoked(r)
	}
}

func (s *Side) advisePair(warn func(flag, path, why string, cert *x509.Certificate), p *tls.Certificate) {
	leaf := p.Leaf
	if s.cfg.Dials {
		if !usable(leaf, x509.ExtKeyUsageClientAuth) {
			warn(flagCert, s.cfg.CertFile, "it is not meant to be shown by a client", leaf)
		}
		return
	}
	if leaf.IsCA && !s.cfg.AnyServer {
		warn(flagCert, s.cfg.CertFile, "it is the certificate of a CA", leaf)
	}
	if !usable(leaf, x509.ExtKeyUsageServerAuth) {
		warn(flagCert, s.cfg.CertFile, "it is not meant to be shown by a server", leaf)
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.URIs) == 0 {
		warn(flagCert, s.cfg.CertFile, "it names no host and no address (subject alternative names), and many clients ask for one", leaf)
	}
	if s.cfg.Flag == "" || s.cfg.AnyServer {
		return
	}
	// Between members each is a client of the others, which have the same files.
	if s.cfg.requiresCert() && s.client.value == nil && !usable(leaf, x509.ExtKeyUsageClientAuth) {
		warn(flagCert, s.cfg.CertFile, "other members will refuse it, because it is not meant to be shown by a client", leaf)
	}
	if s.trusted.value == nil {
		return
	}
	between := x509.NewCertPool()
	for _, der := range p.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(cert)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.trusted.value.pool, Intermediates: between, CurrentTime: s.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		warn(flagCert, s.cfg.CertFile, "no authority in "+s.cfg.flag(flagCA)+" vouches for it: "+err.Error(), leaf)
	}
}

// adviseRevoked names lists that no authority in force has signed.
func (s *Side) adviseRevoked(r *revoked) {
	for _, l := range r.lists {
		if !slices.ContainsFunc(s.trusted.value.certs, func(ca *x509.Certificate) bool { return l.CheckSignatureFrom(ca) == nil }) {
			s.cfg.Log.Warn("check a file of TLS: no authority in "+s.cfg.flag(flagCA)+" has signed this list; it is in force all the same",
				"flag", s.cfg.flag(flagCRL), "file", s.cfg.CRLFile, "issuer", l.Issuer.String())
		}
	}
}

// usable tells whether a certificate is meant for something.
func usable(cert *x509.Certificate, use x509.ExtKeyUsage) bool {
	return len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 || slices.Contains(cert.ExtKeyUsage, use) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// Validity is how long something in a file holds.
type Validity struct {
	Flag, Path string
	Subject    string // of the certificate; of a revocation list its issuer
	Begin, End time.Time
}

// Stats is what a side has to tell.
type Stats struct {
	// Files are the certificates in force, the shown ones without those that vouch for them, and the revocation lists.
	Files []Validity
	// Reloads counts changes of files that took effect, Failures handshakes of others that failed.
	Reloads, Failures uint64
}

// Stats returns what is in force now.
func (s *Side) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Files: s.validities(), Reloads: s.reloads.Load(), Failures: s.failures.Load()}
}

func (s *Side) validities() (all []Validity) {
	add := func(flag, path string, cert *x509.Certificate) {
		all = append(all, Validity{s.cfg.flag(flag), path, cert.Subject.String(), cert.NotBefore, cert.NotAfter})
	}
	if p := s.pair.value; p != nil {
		add(flagCert, s.cfg.CertFile, p.Leaf)
	}
	if p := s.client.value; p != nil {
		add(flagClientCert, s.cfg.ClientCertFile, p.Leaf)
	}
	if a := s.trusted.value; a != nil {
		for _, cert := range a.certs {
			add(flagCA, s.cfg.TrustedCAFile, cert)
		}
	}
	if r := s.crl.value; r != nil {
		for _, l := range r.lists {
			if !l.NextUpdate.IsZero() {
				all = append(all, Validity{s.cfg.flag(flagCRL), s.cfg.CRLFile, l.Issuer.String(), l.ThisUpdate, l.NextUpdate})
			}
		}
	}
	return all
}

const (
	// lookInterval stands between two looks at the files while nobody connects: broken ones are to be named soon, and a look
	// costs a few system calls.
	lookInterval = time.Second
	// warnAhead is how long before its end something is said to end, unless that is more than a fifth of its life: who renews by
	// machine does so after two thirds.
	warnAhead = 30 * 24 * time.Hour
	// warnInterval stands between two such warnings.
	warnInterval = 24 * time.Hour
)

// Run looks at the files until ctx ends, and says in time what is about to end.
func (s *Side) Run(ctx context.Context) error {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		s.refresh()
		s.warnOfEnds()
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// warnOfEnds logs what ends soon or has ended, each once a day.
func (s *Side) warnOfEnds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, warned := s.cfg.Now(), map[string]time.Time{} // of what is in force, so that it does not grow
	for _, v := range s.validities() {
		left := v.End.Sub(now)
		ahead := min(warnAhead, v.End.Sub(v.Begin)/5)
		key := v.Flag + " " + v.Subject + " " + v.End.String()
		last, told := s.warned[key]
		if left > ahead && !now.Before(v.Begin) || told && now.Sub(last) < warnInterval {
			if told {
				warned[key] = last
			}
			continue
		}
		warned[key] = now
		what := "a file of TLS ends soon"
		switch {
		case now.Before(v.Begin):
			what = "a file of TLS is not valid yet"
		case left <= 0:
			what = "a file of TLS is not valid any more"
		}
		s.cfg.Log.Warn(what, "flag", v.Flag, "file", v.Path, "subject", v.Subject, "from", v.Begin, "until", v.End, "left", left.Round(time.Minute))
	}
	s.warned = warned
}

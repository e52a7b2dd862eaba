package tlsconf

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// published are authorities whose private keys anybody can read, because they came as examples with somebody's installer: the
// SHA-256 of the public key, and where it was published.
var published = map[string]string{
	"d814d19de6ee29ccb32d64285cb223822871dd7c1f0aa8bf0ea41f2b3d625303": "the example that comes with the Ansible playbook of storageos/deploy",
}

// Published tells where the private key of an authority was published; empty if that is not known of it. Who trusts such an
// authority trusts everybody.
func Published(ca *x509.Certificate) string {
	sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return published[hex.EncodeToString(sum[:])]
}

func (s *Side) advisePublished(warn func(flag, path, why string, cert *x509.Certificate)) {
	for _, ca := range s.trusted.value.certs {
		if where := Published(ca); where != "" {
			warn(flagCA, s.cfg.TrustedCAFile, "its private key is public ("+where+"), so anybody can make certificates that are trusted here; make an authority of your own with holdfast ctl pki ca", ca)
		}
	}
}

package config

import (
	"crypto/tls"
	"errors"
	"fmt"
)

func (c *Config) checkTLS() error {
	low, high, err := c.TLSVersions()
	if err != nil {
		return err
	}
	if high != 0 && low > high {
		return fmt.Errorf("min version (%s) is greater than max version (%s)", c.TLSMin, c.TLSMax)
	}
	if low == tls.VersionTLS13 && len(c.CipherSuites) > 0 {
		return errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	}
	_, err = c.CipherSuiteIDs()
	return err
}

// TLSVersions are the bounds as crypto/tls has them; 0 is Go's choice.
func (c *Config) TLSVersions() (low, high uint16, err error) {
	if low, err = tlsVersion(c.TLSMin); err != nil {
		return 0, 0, err
	}
	high, err = tlsVersion(c.TLSMax)
	return low, high, err
}

func tlsVersion(name string) (uint16, error) {
	switch name {
	case "":
		return 0, nil
	case "TLS1.2":
		return tls.VersionTLS12, nil
	case "TLS1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("unexpected TLS version %q (must be one of: TLS1.2, TLS1.3)", name)
}

// CipherSuiteIDs are the suites as crypto/tls has them; none is Go's choice. Insecure ones are taken when named, as in etcd.
func (c *Config) CipherSuiteIDs() ([]uint16, error) {
	known := map[string]uint16{ // two names Go had before
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		known[s.Name] = s.ID
	}
	var ids []uint16
	for _, name := range c.CipherSuites {
		id, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("unexpected TLS cipher suite %q", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

package tlsconf

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Options are what a Side is made of. Files that are not named are not used.
type Options struct {
	// Flag is what stands before the names of this side's flags in errors: "" towards clients, "peer-" between members.
	Flag string

	// Dials is a side that connects and is never connected to. Its flags are those of etcd's clients: --cert, --key and --cacert.
	Dials bool

	// CertFile and KeyFile are shown to those who connect, and, unless ClientCertFile and ClientKeyFile are named, to those we
	// connect to.
	CertFile, KeyFile             string
	ClientCertFile, ClientKeyFile string
	// TrustedCAFile holds the authorities that count; empty: the system's. With it, who connects must show a certificate, as in
	// etcd.
	TrustedCAFile string
	// CRLFile holds certificates that were revoked.
	CRLFile string
	// ClientCertAuth demands a certificate of those who connect.
	ClientCertAuth bool
	// AllowedCNs and AllowedHostnames, if any, are names of which the other side's certificate must have one, whoever
	// connected. At most one of the two lists.
	AllowedCNs, AllowedHostnames []string
	// SkipClientSANVerify takes certificates that do not name the address they come from; see Handshake.
	SkipClientSANVerify bool
	// AnyServer connects to whoever answers, because members make their certificates themselves.
	AnyServer bool
	// ServerName is the name that servers must prove to have in place of their host; empty: their host.
	ServerName string

	// MinVersion and MaxVersion are crypto/tls's numbers; 0 is TLS 1.2, and Go's choice.
	MinVersion, MaxVersion uint16
	// CipherSuites are crypto/tls's numbers, for TLS 1.2; none is Go's choice.
	CipherSuites []uint16
	// Protocols are offered to those who connect, the one preferred first.
	Protocols []string

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // required
}

// requiresCert tells whether those who connect must show a certificate.
func (o *Options) requiresCert() bool { return o.ClientCertAuth || o.TrustedCAFile != "" }

// base is what all configurations of the side have in common.
func (o *Options) base() *tls.Config {
	low := o.MinVersion
	if low == 0 {
		low = tls.VersionTLS12
	}
	return &tls.Config{MinVersion: low, MaxVersion: o.MaxVersion, CipherSuites: o.CipherSuites, Time: o.Now}
}

// Names of flags, behind Options.Flag.
const (
	flagCert       = "cert-file"
	flagKey        = "key-file"
	flagClientCert = "client-cert-file"
	flagClientKey  = "client-key-file"
	flagCA         = "trusted-ca-file"
	flagCRL        = "crl-file"
)

// dialFlags are the flags of a side that only connects.
var dialFlags = map[string]string{flagCert: "--cert", flagKey: "--key", flagCA: "--cacert"}

// flag is a flag of this side as it is typed.
func (o *Options) flag(name string) string {
	switch {
	case o.Dials && dialFlags[name] != "":
		return dialFlags[name]
	case name == flagCRL && o.Flag == "":
		return "--client-crl-file"
	}
	return "--" + o.Flag + name
}

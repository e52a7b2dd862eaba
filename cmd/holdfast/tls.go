package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"holdfast/config"
	"holdfast/tlsconf"
)

// sides are what a member shows and whom it believes; nil where there is no TLS.
type sides struct {
	clients, peers *tlsconf.Side
}

// dial is for connections to other members.
func (s sides) dial() func(host string) *tls.Config {
	if s.peers == nil {
		return nil
	}
	return s.peers.Client
}

func secured(u url.URL) bool { return u.Scheme == "https" || u.Scheme == "unixs" }

// openTLS reads the files of TLS, and makes those that --auto-tls and --peer-auto-tls ask for. Files towards clients are left
// alone if no URL asks for TLS, as in etcd.
func openTLS(cfg config.Config, log *slog.Logger) (s sides, err error) {
	client, peer := cfg.Client, cfg.Peer
	listen := slices.Concat(cfg.ListenClientURLs, cfg.ListenClientHTTPURLs)
	warnPlain(client, listen, "client", "http or unix", "client-cert-auth", log)
	warnPlain(peer, cfg.ListenPeerURLs, "peer", "HTTP", "peer-client-cert-auth", log)
	clientOptions, err := sideOptions(cfg, client, "", listen, log)
	if err != nil {
		return s, err
	}
	peerOptions, err := sideOptions(cfg, peer, "peer-", cfg.ListenPeerURLs, log)
	if err != nil {
		return s, err
	}
	var clientErr, peerErr error
	if slices.ContainsFunc(slices.Concat(listen, cfg.ListenMetricsURLs), secured) && clientOptions.CertFile != "" {
		clientOptions.Protocols = []string{"h2", "http/1.1"}
		s.clients, clientErr = openSide(clientOptions, "client")
	}
	if peerOptions.CertFile != "" || peerOptions.TrustedCAFile != "" {
		peerOptions.Protocols = []string{"http/1.1"} // members speak nothing else
		if cfg.Discovery.SRV != "" && peerOptions.TrustedCAFile == "" {
			peerOptions.ServerName = cfg.Discovery.SRV // who vouches for a member vouches for the domain that names it
		}
		s.peers, peerErr = openSide(peerOptions, "peer")
	}
	return s, errors.Join(clientErr, peerErr)
}

// warnPlain says that what is told of TLS has nothing to do with a URL, in etcd's words.
func warnPlain(t config.TLS, listen []url.URL, name, scheme, flag string, log *slog.Logger) {
	for _, u := range listen {
		if t.Given() && !secured(u) {
			log.Warn("scheme is "+scheme+" while key and cert files are present; ignoring key and cert files", name+"-url", u.String())
		}
		if t.ClientCertAuth && !secured(u) {
			log.Warn("scheme is "+scheme+" while --"+flag+" is enabled; ignoring client cert auth for this URL", name+"-url", u.String())
		}
	}
}

// openSide opens the files of a side and says so in etcd's words.
func openSide(o tlsconf.Options, name string) (*tlsconf.Side, error) {
	side, err := tlsconf.Open(o)
	if err != nil {
		return nil, err
	}
	info := fmt.Sprintf("cert = %s, key = %s, client-cert=%s, client-key=%s, trusted-ca = %s, client-cert-auth = %v, crl-file = %s",
		o.CertFile, o.KeyFile, o.ClientCertFile, o.ClientKeyFile, o.TrustedCAFile, o.ClientCertAuth, o.CRLFile)
	names := []string{}
	for _, id := range o.CipherSuites {
		names = append(names, tls.CipherSuiteName(id))
	}
	o.Log.Info("starting with "+name+" TLS", "tls-info", info, "cipher-suites", names)
	return side, nil
}

// sideOptions are those of the side whose flags begin with flag. listen is where it is shown.
func sideOptions(cfg config.Config, t config.TLS, flag string, listen []url.URL, log *slog.Logger) (o tlsconf.Options, err error) {
	o.Flag, o.Log = flag, log
	if o.MinVersion, o.MaxVersion, err = cfg.TLSVersions(); err != nil {
		return o, err
	}
	if o.CipherSuites, err = cfg.CipherSuiteIDs(); err != nil {
		return o, err
	}
	name := cmp.Or(map[string]string{"peer-": "peer"}[flag], "client")
	if t.Auto && !t.Given() {
		return o, makeFiles(&o, cfg, t, name, listen)
	}
	if t.Auto {
		log.Warn("ignoring " + name + " auto TLS since certs given")
	}
	o.CertFile, o.KeyFile, o.ClientCertFile, o.ClientKeyFile = t.CertFile, t.KeyFile, t.ClientCertFile, t.ClientKeyFile
	o.TrustedCAFile, o.CRLFile, o.ClientCertAuth = t.TrustedCAFile, t.CRLFile, t.ClientCertAuth
	o.AllowedCNs, o.AllowedHostnames, o.SkipClientSANVerify = t.AllowedCNs, t.AllowedHostnames, t.SkipClientSANVerify
	return o, nil
}

// makeFiles makes the certificate of a side that is told to have one. As in etcd nothing else that is said of the side holds then:
// nobody can vouch for those who connect.
func makeFiles(o *tlsconf.Options, cfg config.Config, t config.TLS, name string, listen []url.URL) (err error) {
	if t.ClientCertAuth || t.TrustedCAFile != "" || t.CRLFile != "" || len(t.AllowedCNs)+len(t.AllowedHostnames) > 0 {
		o.Log.Warn("certificates of others are not checked, because this member makes its own: see --"+o.Flag+"auto-tls",
			"flag", "--"+o.Flag+"client-cert-auth")
	}
	files := tlsconf.SelfSigned{Dir: filepath.Join(cfg.DataDir, "fixtures", name), Years: cfg.CertYears, Now: time.Now, Log: o.Log}
	for _, u := range listen {
		files.Hosts = append(files.Hosts, u.Host)
	}
	o.AnyServer = true
	o.CertFile, o.KeyFile, err = files.Make()
	return err
}

package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/util/quiet"
)

// Side is what a member shows, and whom it believes, towards clients or between members. It is safe for concurrent use.
type Side struct {
	cfg   Options
	outer *tls.Config // for those who connect: asks for the state of the moment
	gate  *gate
	quiet *quiet.Bound

	mu      sync.Mutex // guards the fields below; held while files are looked at
	pair    source[*tls.Certificate]
	client  source[*tls.Certificate] // empty: pair
	trusted source[*authorities]
	crl     source[*revoked]
	warned  map[string]time.Time // when the end of a certificate was said last, by flag and subject

	state    atomic.Pointer[state]
	reloads  atomic.Uint64
	failures atomic.Uint64
}

// state is everything a handshake needs. It does not change.
type state struct {
	server, client *tls.Config
}

// Open reads the files of a side. Its error names everything that is wrong with them; what is merely odd is logged.
func Open(cfg Options) (*Side, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Side{cfg: cfg, gate: newGate(handshakesMax), quiet: quiet.New(cfg.Log, "more connections were rejected than were logged", cfg.Now)}
	s.outer = cfg.base()
	s.outer.NextProtos = cfg.Protocols
	s.outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current().server, nil }
	if err := s.open(); err != nil {
		return nil, err
	}
	s.state.Store(s.newState())
	s.advise()
	return s, nil
}

// open declares the files and reads them.
func (s *Side) open() error {
	c := &s.cfg
	if len(c.AllowedCNs) > 0 && len(c.AllowedHostnames) > 0 {
		return fmt.Errorf("AllowedCNs and AllowedHostnames are mutually exclusive (cns=%q, hostnames=%q)", c.AllowedCNs, c.AllowedHostnames)
	}
	pairErr := s.declarePair(&s.pair, flagCert, flagKey, c.CertFile, c.KeyFile)
	clientErr := s.declarePair(&s.client, flagClientCert, flagClientKey, c.ClientCertFile, c.ClientKeyFile)
	if err := errors.Join(pairErr, clientErr); err != nil {
		return err
	}
	if c.TrustedCAFile != "" {
		s.trusted = source[*authorities]{paths: []string{c.TrustedCAFile}, parse: func(content [][]byte) (*authorities, error) {
			return parseAuthorities(s.what(flagCA, c.TrustedCAFile), content[0])
		}}
	}
	if c.CRLFile != "" {
		s.crl = source[*revoked]{paths: []string{c.CRLFile}, parse: func(content [][]byte) (*revoked, error) {
			lists, err := parseRevoked(s.what(flagCRL, c.CRLFile), content[0])
			if err != nil {
				return nil, err
			}
			return newRevoked(lists), nil
		}}
	}
	now := c.Now()
	read := func(err error, flag string) error {
		if err == nil || !isFileError(err) {
			return err
		}
		return fmt.Errorf("%s: %w", flag, err)
	}
	err := errors.Join(read(s.trusted.open(now), c.flag(flagCA)), read(s.pair.open(now), c.flag(flagCert)+", "+c.flag(flagKey)),
		read(s.client.open(now), c.flag(flagClientCert)+", "+c.flag(flagClientKey)), read(s.crl.open(now), c.flag(flagCRL)))
	if err != nil {
		return errors.Join(err, s.suspectSwap())
	}
	return nil
}

// declarePair says what is in two files, of which both or none must be named.
func (s *Side) declarePair(to *source[*tls.Certificate], certFlag, keyFlag, certPath, keyPath string) error {
	if (certPath == "") != (keyPath == "") {
		return fmt.Errorf("%s and %s must both be given or both be left out (%q, %q)", s.cfg.flag(certFlag), s.cfg.flag(keyFlag), certPath, keyPath)
	}
	if certPath == "" {
		return nil
	}
	*to = source[*tls.Certificate]{paths: []string{certPath, keyPath}, parse: func(content [][]byte) (*tls.Certificate, error) {
		return parsePair(s.what(certFlag, certPath), s.what(keyFlag, keyPath), content[0], content[1])
	}}
	return nil
}

// what names a file in errors.
func (s *Side) what(flag, path string) string { return s.cfg.flag(flag) + " " + path }

// current is the state of the moment: the files are looked at first.
func (s *Side) current() *state {
	s.refresh()
	return s.state.Load()
}

// refresh takes over what has changed in the files.
func (s *Side) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, log := s.cfg.Now(), s.cfg.Log
	changed := s.pair.refresh(now, log)
	changed = s.client.refresh(now, log) || changed
	changed = s.trusted.refresh(now, log) || changed
	changed = s.crl.refresh(now, log) || changed
	if !changed {
		return
	}
	s.reloads.Add(1)
	s.state.Store(s.newState())
	log.Info("files of TLS have changed and are in force", "files", s.paths())
	s.advise()
}

func (s *Side) paths() (paths []string) {
	for _, more := range [][]string{s.pair.paths, s.client.paths, s.trusted.paths, s.crl.paths} {
		paths = append(paths, more...)
	}
	return paths
}

// newState makes a state of what was read last.
func (s *Side) newState() *state {
	var pool *x509.CertPool // nil: the system's
	if s.trusted.value != nil {
		pool = s.trusted.value.pool
	}
	revoked := s.crl.value
	verify := func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil // whether that is enough was asked before
		}
		if err := revoked.check(&cs); err != nil {
			return err
		}
		return s.cfg.allowed(&cs)
	}
	server, client := s.cfg.base(), s.cfg.base()
	server.NextProtos, server.VerifyConnection = s.cfg.Protocols, verify
	if s.cfg.requiresCert() {
		server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, pool
	}
	client.RootCAs, client.ServerName, client.InsecureSkipVerify, client.VerifyConnection = pool, s.cfg.ServerName, s.cfg.AnyServer, verify
	if s.pair.value != nil {
		server.Certificates = []tls.Certificate{*s.pair.value}
	}
	shown := s.pair.value
	if s.client.value != nil {
		shown = s.client.value
	}
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if shown == nil {
			return &tls.Certificate{}, nil // no certificate
		}
		return shown, nil // even if the server names other authorities: it says better than we what is wrong with it
	}
	return &state{server: server, client: client}
}

// Serves tells whether there is a certificate to show to those who connect.
func (s *Side) Serves() bool { return s != nil && s.cfg.CertFile != "" }

// Server is for those who connect. It follows the files by itself.
func (s *Side) Server() *tls.Config { return s.outer }

// Client is for one connection to a host, as the files are now. It is the caller's.
func (s *Side) Client(host string) *tls.Config {
	cfg := s.current().client.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	return cfg
}

package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"holdfast/tlsconf"
)

// Grade is how bad a finding is.
type Grade int

// The grades: Fine says what is there, Odd works and is probably not what was meant, Wrong does not work.
const (
	Fine Grade = iota
	Odd
	Wrong
)

// Finding is one thing that was found out about a set of files.
type Finding struct {
	Grade Grade
	Text  string
}

// Set is what one side shows and whom it believes.
type Set struct {
	tlsconf.Options
	// Hosts are names and addresses under which others connect.
	Hosts []string
}

// Examine finds out what is right and wrong with a set. side is nil if it cannot be used at all.
func Examine(s Set, now time.Time) (found []Finding, side *tlsconf.Side) {
	heard := &listener{}
	s.Log, s.Now = slog.New(heard), func() time.Time { return now }
	side, err := tlsconf.Open(s.Options)
	if err != nil {
		return append(lines(Wrong, err), secrecy(s.Options)...), nil
	}
	for _, v := range side.Stats().Files {
		found = append(found, validity(v, now))
	}
	found = append(found, secrecy(s.Options)...)
	for _, text := range heard.said {
		found = append(found, Finding{Odd, text})
	}
	return append(found, s.hosts()...), side
}

// validity says of a certificate or a revocation list how long it holds.
func validity(v tlsconf.Validity, now time.Time) Finding {
	what := fmt.Sprintf("%s %s: %s", v.Flag, v.Path, v.Subject)
	days := int(v.End.Sub(now).Hours() / 24)
	switch {
	case now.Before(v.Begin):
		return Finding{Wrong, fmt.Sprintf("%s is not valid before %s: look at the clock, or wait", what, v.Begin.UTC().Format(time.DateTime))}
	case now.After(v.End):
		return Finding{Wrong, fmt.Sprintf("%s has ended on %s: make another", what, v.End.UTC().Format(time.DateOnly))}
	case v.End.Sub(now) < min(soon, v.End.Sub(v.Begin)/5):
		return Finding{Odd, fmt.Sprintf("%s ends in %d days, on %s", what, days, v.End.UTC().Format(time.DateOnly))}
	}
	return Finding{Fine, fmt.Sprintf("%s, until %s (%d days)", what, v.End.UTC().Format(time.DateOnly), days)}
}

// soon is how long before its end something is warned of, unless that is more than a fifth of its life.
const soon = 30 * 24 * time.Hour

// secrecy looks at who may read the keys.
func secrecy(o tlsconf.Options) (found []Finding) {
	for _, path := range []string{o.KeyFile, o.ClientKeyFile} {
		if info, err := os.Stat(path); path != "" && err == nil && info.Mode().Perm()&0o077 != 0 {
			found = append(found, Finding{Odd, fmt.Sprintf("%s is a private key that others on this machine may use (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)})
		}
	}
	return found
}

// hosts asks whether the certificate is for the hosts that others use.
func (s Set) hosts() (found []Finding) {
	if s.CertFile == "" || len(s.Hosts) == 0 {
		return nil
	}
	pair, err := tlsconf.ReadPair(s.CertFile, s.KeyFile)
	if err != nil {
		return lines(Wrong, err)
	}
	for _, text := range s.Hosts {
		host, err := hostOf(text)
		if err == nil {
			err = pair.Leaf.VerifyHostname(host)
		}
		if err != nil {
			found = append(found, Finding{Wrong, fmt.Sprintf("--%scert-file %s is not for %s: %v", s.Flag, s.CertFile, text, err)})
		}
	}
	return found
}

// Meet lets one side connect to another as host, within this machine, and says why that fails, and who refuses whom.
func Meet(ctx context.Context, client, server *tlsconf.Side, host string) error {
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	near, far, err := connected()
	if err != nil {
		return err
	}
	defer near.Close()
	answered := make(chan error, 1)
	go func() { // ends with the connection
		c := tls.Server(far, server.Server())
		err := c.HandshakeContext(ctx)
		if err == nil {
			_, err = c.Write([]byte{1}) // with it the client hears what is thought of its certificate
		}
		answered <- err
		far.Close()
	}()
	c := tls.Client(near, client.Client(host))
	clientSays := c.HandshakeContext(ctx)
	if clientSays == nil {
		_, clientSays = c.Read(make([]byte, 1))
	}
	near.Close()
	serverSays := <-answered
	var told *net.OpError // the other side has sent an alert: it knows why
	switch {
	case clientSays != nil && !errors.As(clientSays, &told):
		return fmt.Errorf("who connects refuses the certificate it is shown: %w", clientSays)
	case serverSays != nil:
		return fmt.Errorf("who connects is refused: %w", serverSays)
	}
	return clientSays
}

// meetTimeout bounds a handshake.
const meetTimeout = 10 * time.Second

// connected makes a connection that has buffers, which net.Pipe has not: both sides of a handshake may write at once.
func connected() (near, far net.Conn, err error) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return nil, nil, fmt.Errorf("connect to this machine itself: %w", err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, fmt.Errorf("connect to this machine itself: %w", err)
	}
	if far, err = l.Accept(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("connect to this machine itself: %w", err), near.Close())
	}
	return near, far, nil
}

// hostsOf are the names and addresses of a certificate.
func hostsOf(cert *x509.Certificate) []string {
	hosts := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

// lines makes a finding of each line of an error that joins several.
func lines(g Grade, err error) (found []Finding) {
	for _, line := range strings.Split(err.Error(), "\n") {
		found = append(found, Finding{g, line})
	}
	return found
}

// listener keeps what is logged as sentences.
type listener struct{ said []string }

func (*listener) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l *listener) WithAttrs([]slog.Attr) slog.Handler             { return l }
func (l *listener) WithGroup(string) slog.Handler                  { return l }

func (l *listener) Handle(_ context.Context, r slog.Record) error {
	told := map[string]string{}
	r.Attrs(func(a slog.Attr) bool {
		told[a.Key] = a.Value.String()
		return true
	})
	text := strings.TrimPrefix(r.Message, "check a file of TLS: ")
	place := strings.TrimSpace(told["flag"] + " " + told["file"])
	if place != "" {
		text = place + ": " + text
	}
	if who := told["certificate"]; who != "" {
		text += " (" + who + ")"
	}
	l.said = append(l.said, text)
	return nil
}

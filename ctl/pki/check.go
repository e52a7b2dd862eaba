package pki

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/config"
	"holdfast/ctl/term"
	"holdfast/tlsconf"
)

// serverFlags are the flags of a member that name files of TLS; each exists with "peer-" before it, too.
var serverFlags = []struct{ client, peer string }{
	{"cert-file", "peer-cert-file"}, {"key-file", "peer-key-file"},
	{"client-cert-file", "peer-client-cert-file"}, {"client-key-file", "peer-client-key-file"},
	{"trusted-ca-file", "peer-trusted-ca-file"}, {"client-crl-file", "peer-crl-file"},
}

// CheckCommand is "tls", below "check". Where the flags of ctl that name a client's files (--cacert, --cert, --key) are known, it
// also asks whether that client and the members accept each other.
func CheckCommand() *cobra.Command {
	var hosts, peerHosts []string
	c := &cobra.Command{
		Use:   "tls [options]",
		Short: "Explains what is wrong with files of TLS",
		Long: `Explains what is wrong with a set of certificates, keys, authorities and revocation lists, without a member and without
a connection. The flags are those of a member; --config-file reads them from a member's file. With --cacert, --cert and --key it
also tells whether a client with these files and the member accept each other. It fails if anything does not work.`,
		Example: `  holdfast ctl check tls --cert-file=server.pem --key-file=server-key.pem --trusted-ca-file=ca.pem --client-cert-auth
  holdfast ctl check tls --config-file=/etc/holdfast/holdfast.conf.yml
  holdfast ctl check tls --cert-file=server.pem --key-file=server-key.pem --trusted-ca-file=ca.pem \
    --cacert=ca.pem --cert=root.pem --key=root-key.pem --host=m1.example.com`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return check(c, hosts, peerHosts) },
	}
	f := c.Flags()
	for _, name := range serverFlags {
		f.String(name.client, "", "as the member's flag, towards clients")
		f.String(name.peer, "", "as the member's flag, between members")
	}
	f.Bool("client-cert-auth", false, "as the member's flag, towards clients")
	f.Bool("peer-client-cert-auth", false, "as the member's flag, between members")
	f.String("config-file", "", "a member's configuration file, in place of the flags above")
	f.StringSliceVar(&hosts, "host", nil, "names and addresses that clients connect to, in addition to the file's --advertise-client-urls")
	f.StringSliceVar(&peerHosts, "peer-host", nil, "names and addresses that members connect to, in addition to the file's --initial-advertise-peer-urls")
	return c
}

func check(c *cobra.Command, hosts, peerHosts []string) error {
	cfg, err := memberConfig(c)
	if err != nil {
		return err
	}
	if c.Flag("config-file").Changed {
		hosts = append(slices.Clone(hosts), secureHosts(cfg.AdvertiseClientURLs)...)
		peerHosts = append(slices.Clone(peerHosts), secureHosts(cfg.AdvertisePeerURLs)...)
	}
	report := &report{c: c, paint: term.PaintFor(c.OutOrStdout(), os.Getenv)}
	toClients := report.side("towards clients", Set{options(cfg.Client, ""), hosts})
	members := report.side("between members", Set{options(cfg.Peer, "peer-"), peerHosts})
	client := report.client()
	if !report.said {
		return errors.New("name the files to check, such as --cert-file, --key-file and --trusted-ca-file, or --config-file")
	}
	if members.Serves() {
		report.meet("members accept each other", members, members, cfg.Peer.CertFile, cfg.Peer.KeyFile, peerHosts)
	}
	if client != nil && toClients.Serves() {
		report.meet("client and member accept each other", client, toClients, cfg.Client.CertFile, cfg.Client.KeyFile, hosts)
	}
	if report.wrong > 0 {
		return fmt.Errorf("%d found that cannot work", report.wrong)
	}
	return nil
}

// memberConfig is what the member would be told: by the flags or by its file.
func memberConfig(c *cobra.Command) (config.Config, error) {
	var args []string
	pass := func(name string) {
		if f := c.Flag(name); f.Changed {
			args = append(args, "--"+name+"="+f.Value.String())
		}
	}
	for _, name := range serverFlags {
		pass(name.client)
		pass(name.peer)
	}
	pass("client-cert-auth")
	pass("peer-client-cert-auth")
	file := c.Flag("config-file")
	if file.Changed && len(args) > 0 {
		return config.Config{}, fmt.Errorf("--config-file is in place of the other flags of a member (%s)", strings.Join(args, " "))
	}
	pass("config-file")
	cfg, _, err := config.Parse(config.Sources{Program: c.CommandPath(), Args: args})
	return cfg, err
}

func options(t config.TLS, flag string) tlsconf.Options {
	return tlsconf.Options{
		Flag: flag, CertFile: t.CertFile, KeyFile: t.KeyFile, ClientCertFile: t.ClientCertFile, ClientKeyFile: t.ClientKeyFile,
		TrustedCAFile: t.TrustedCAFile, CRLFile: t.CRLFile, ClientCertAuth: t.ClientCertAuth,
		AllowedCNs: t.AllowedCNs, AllowedHostnames: t.AllowedHostnames,
	}
}

func secureHosts(urls []url.URL) (hosts []string) {
	for _, u := range urls {
		if u.Scheme == "https" {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// report prints findings and counts.
type report struct {
	c     *cobra.Command
	paint term.Paint
	said  bool // a file was named
	wrong int
}

// side examines a set and prints what was found; nil if no file of it is named, or it cannot be used.
func (r *report) side(title string, s Set) *tlsconf.Side {
	if s.CertFile+s.KeyFile+s.ClientCertFile+s.ClientKeyFile+s.TrustedCAFile+s.CRLFile == "" {
		return nil
	}
	r.said = true
	found, side := Examine(s, time.Now())
	r.print(title, found)
	return side
}

// clientNames turns the flags of a member into those of a client.
var clientNames = strings.NewReplacer("--client-cert-file", "--cert", "--client-key-file", "--key", "--trusted-ca-file", "--cacert")

// client examines the files that ctl itself would show.
func (r *report) client() *tlsconf.Side {
	named := func(flag string) string {
		if f := r.c.Flag(flag); f != nil {
			return f.Value.String()
		}
		return ""
	}
	s := Set{Options: tlsconf.Options{ClientCertFile: named("cert"), ClientKeyFile: named("key"), TrustedCAFile: named("cacert")}}
	if s.ClientCertFile+s.ClientKeyFile+s.TrustedCAFile == "" {
		return nil
	}
	r.said = true
	found, side := Examine(s, time.Now())
	for i := range found {
		found[i].Text = clientNames.Replace(found[i].Text)
	}
	r.print("of this client", found)
	return side
}

// meet says whether one side accepts another under each host, or under a name of the certificate if none is known.
func (r *report) meet(what string, client, server *tlsconf.Side, certFile, keyFile string, hosts []string) {
	pair, err := tlsconf.ReadPair(certFile, keyFile)
	if err != nil {
		r.print(what, lines(Wrong, err))
		return
	}
	if names := hostsOf(pair.Leaf); len(hosts) == 0 && len(names) > 0 {
		hosts = names[:1]
	}
	if len(hosts) == 0 {
		hosts = []string{pair.Leaf.Subject.CommonName}
	}
	var found []Finding
	for _, text := range hosts {
		host, err := hostOf(text)
		if err == nil {
			err = Meet(r.c.Context(), client, server, host)
		}
		if err != nil {
			found = append(found, Finding{Wrong, fmt.Sprintf("at %s: %v", text, err)})
		} else {
			found = append(found, Finding{Fine, "at " + strconv.Quote(text)})
		}
	}
	r.print(what, found)
}

func (r *report) print(title string, found []Finding) {
	out := r.c.OutOrStdout()
	fmt.Fprintln(out, r.paint.Bold(title+":"))
	for _, f := range found {
		switch f.Grade {
		case Fine:
			fmt.Fprintf(out, "  %s       %s\n", r.paint.Good("ok"), f.Text)
		case Odd:
			fmt.Fprintf(out, "  %s  %s\n", r.paint.Odd("warning"), f.Text)
		case Wrong:
			r.wrong++
			fmt.Fprintf(out, "  %s    %s\n", r.paint.Bad("error"), f.Text)
		}
	}
}

package pki

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/tlsconf"
)

// order is what the commands of this package have in common.
type order struct {
	dir, name   string
	ca, caKey   string
	commonName  string
	days        int
	noLocalhost bool
}

// Command is "pki".
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "pki <subcommand>",
		Short: "Makes an authority, and certificates of servers, peers and clients",
		Long: `Makes what a cluster with TLS needs: an authority (CA), and certificates that it vouches for. Each certificate
is a file NAME.pem beside its private key NAME-key.pem, which only its owner can read. Nothing is ever written over.

Keep the authority's key (ca-key.pem) away from the machines of the cluster: they need ca.pem only.`,
		Example: `  # An authority, then for a member its certificates towards clients and towards the other members
  holdfast ctl pki ca
  holdfast ctl pki server m1.example.com 10.0.0.1
  holdfast ctl pki peer https://m1.example.com:2380 10.0.0.1

  # A client that logs in as the user backup
  holdfast ctl pki client backup

  # What is to be told to the member
  holdfast --cert-file=server.pem --key-file=server-key.pem --client-cert-auth --trusted-ca-file=ca.pem \
    --peer-cert-file=peer.pem --peer-key-file=peer-key.pem --peer-client-cert-auth --peer-trusted-ca-file=ca.pem ...`,
	}
	c.AddCommand(caCommand(), hostsCommand(Server), hostsCommand(Peer), clientCommand())
	return c
}

func (o *order) declare(c *cobra.Command, name string, days int) {
	f := c.Flags()
	f.StringVar(&o.dir, "dir", ".", "directory of the new files; made if it is missing")
	f.StringVar(&o.name, "name", name, "name of the new files: NAME.pem and NAME-key.pem")
	f.IntVar(&o.days, "days", days, "how long the certificate holds")
}

func (o *order) declareAuthority(c *cobra.Command) {
	c.Flags().StringVar(&o.ca, "ca", "", "certificate of the authority (default ca.pem in --dir)")
	c.Flags().StringVar(&o.caKey, "ca-key", "", "key of the authority (default ca-key.pem in --dir)")
}

func caCommand() *cobra.Command {
	var o order
	c := &cobra.Command{
		Use:   "ca [options]",
		Short: "Makes an authority",
		Example: `  holdfast ctl pki ca --dir=/root/etcd-pki
  holdfast ctl pki ca --common-name="etcd of production" --days=1825`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.make(c, Request{Kind: CA, CommonName: o.commonName})
		},
	}
	o.declare(c, "ca", CADays)
	c.Flags().StringVar(&o.commonName, "common-name", "Holdfast CA", "name of the authority, to tell it from others")
	return c
}

func hostsCommand(kind Kind) *cobra.Command {
	var o order
	c := &cobra.Command{
		Use:   string(kind) + " <host or address or URL>... [options]",
		Short: map[Kind]string{Server: "Makes the certificate that a member shows to clients", Peer: "Makes the certificate that a member shows to other members"}[kind],
		Long: map[Kind]string{
			Server: "Makes the certificate that a member shows to clients. Name every host and address that clients connect to: what --advertise-client-urls has, and names of load balancers.\nlocalhost, 127.0.0.1 and ::1 are added.",
			Peer:   "Makes the certificate that a member shows to other members, and with which it connects to them. Name every host and address of --initial-advertise-peer-urls, and the domain\nof --discovery-srv if there is one: members refuse one who connects from an address that its certificate does not name, by itself or through DNS.",
		}[kind],
		Example: fmt.Sprintf("  holdfast ctl pki %[1]s m1.example.com 10.0.0.1\n  holdfast ctl pki %[1]s --name=m2-%[1]s https://m2.example.com:2379 --ca=/root/pki/ca.pem --ca-key=/root/pki/ca-key.pem", kind),
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, hosts []string) error {
			if kind == Server && !o.noLocalhost {
				hosts = append(slices.Clone(hosts), "localhost", "127.0.0.1", "::1")
			}
			return o.make(c, Request{Kind: kind, CommonName: o.commonName, Hosts: hosts})
		},
	}
	o.declare(c, string(kind), LeafDays)
	o.declareAuthority(c)
	c.Flags().StringVar(&o.commonName, "common-name", "", "name of the certificate (default: the first host)")
	if kind == Server {
		c.Flags().BoolVar(&o.noLocalhost, "no-localhost", false, "leave localhost out")
	}
	return c
}

func clientCommand() *cobra.Command {
	var o order
	c := &cobra.Command{
		Use:     "client <user> [options]",
		Short:   "Makes a certificate for a client",
		Long:    "Makes a certificate for a client. Where authentication is on and the members ask for certificates, the client is that user without a password.",
		Example: "  holdfast ctl pki client root\n  holdfast ctl pki client backup --name=backup-on-host7 --days=90",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.name == "" {
				o.name = strings.ReplaceAll(args[0], "/", "_")
			}
			return o.make(c, Request{Kind: Client, CommonName: args[0]})
		},
	}
	o.declare(c, "", LeafDays)
	c.Flags().Lookup("name").Usage += " (default: the user)"
	o.declareAuthority(c)
	return c
}

// make makes and writes what a command asks for, and says where it is.
func (o *order) make(c *cobra.Command, r Request) error {
	r.Days, r.Now = o.days, time.Now()
	var by *Authority
	if r.Kind != CA {
		defaultCert, defaultKey := Paths(o.dir, "ca")
		if o.ca == "" {
			o.ca = defaultCert
		}
		if o.caKey == "" {
			o.caKey = defaultKey
		}
		var err error
		if by, err = ReadAuthority(o.ca, o.caKey, r.Now); err != nil {
			return err
		}
		if where := tlsconf.Published(by.Cert); where != "" {
			c.PrintErrf("Warning: the private key of the authority in %s is public (%s): anybody can make certificates that your cluster trusts. Make one of your own with: pki ca\n", o.ca, where)
		}
	}
	made, err := Make(r, by)
	if err != nil {
		return err
	}
	certFile, keyFile, err := made.Write(o.dir, o.name)
	if err != nil {
		return err
	}
	if made.Shortened {
		c.PrintErrf("Warning: the certificate ends with its authority, before %d days are over\n", r.Days)
	}
	out := c.OutOrStdout()
	fmt.Fprintf(out, "%s: %s\n", certFile, describe(made.Cert))
	fmt.Fprintf(out, "%s: its private key\n", keyFile)
	return nil
}

// describe says in a line what a certificate is.
func describe(cert *x509.Certificate) string {
	var parts []string
	if hosts := hostsOf(cert); len(hosts) > 0 {
		parts = append(parts, "for "+strings.Join(hosts, ", "))
	}
	if cert.Issuer.String() != cert.Subject.String() {
		parts = append(parts, "signed by "+cert.Issuer.String())
	}
	parts = append(parts, "until "+cert.NotAfter.UTC().Format(time.DateOnly))
	return cert.Subject.String() + ", " + strings.Join(parts, ", ")
}

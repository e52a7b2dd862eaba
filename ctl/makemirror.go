package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/mirror"
	"holdfast/ctl/term"
)

// mirrorFlags are those of make-mirror.
type mirrorFlags struct {
	prefix, destPrefix string
	noDestPrefix       bool
	revision           int64
	txnOps             uint

	insecure          bool
	cert, key, cacert string
	user, password    string
}

// mirrorReport is how often make-mirror tells how much it has copied.
const mirrorReport = 30 * time.Second

func (t *tool) makeMirror() *cobra.Command {
	var f mirrorFlags
	c := &cobra.Command{
		Use:   "make-mirror [options] <destination>",
		Short: "Makes a mirror at the destination etcd cluster",
		Long: "Copies all keys, or those with a prefix, to another cluster, and goes on copying what changes until it is stopped.\n" +
			"Every 30 seconds it prints how many writes and deletions the destination has got.\n\n" +
			"Leases are not copied. A mirror that was stopped goes on behind revision N with --rev=N+1.",
		Example: t.examples("ctl make-mirror 10.0.1.1:2379", "ctl make-mirror --prefix=/app/ --dest-prefix=/old-app/ 10.0.1.1:2379",
			"ctl make-mirror --dest-insecure-transport=false --dest-cacert=ca.crt --dest-user=root:password https://10.0.1.1:2379"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("make-mirror takes one destination argument")
			}
			return t.mirrorTo(cmd, args[0], f)
		}),
	}
	fs := c.Flags()
	fs.StringVar(&f.prefix, "prefix", "", "Key-value prefix to mirror")
	fs.Int64Var(&f.revision, "rev", 0, "Specify the kv revision to start to mirror")
	fs.UintVar(&f.txnOps, "max-txn-ops", 128, "Maximum number of operations permitted in a transaction during syncing updates.")
	fs.StringVar(&f.destPrefix, "dest-prefix", "", "destination prefix to mirror a prefix to a different prefix in the destination cluster")
	fs.BoolVar(&f.noDestPrefix, "no-dest-prefix", false, "mirror key-values to the root of the destination cluster")
	fs.StringVar(&f.cert, "dest-cert", "", "Identify secure client using this TLS certificate file for the destination cluster")
	fs.StringVar(&f.key, "dest-key", "", "Identify secure client using this TLS key file")
	fs.StringVar(&f.cacert, "dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle")
	fs.BoolVar(&f.insecure, "dest-insecure-transport", true, "Disable transport security for client connections")
	fs.StringVar(&f.user, "dest-user", "", "Destination username[:password] for authentication (prompt if password is not supplied)")
	fs.StringVar(&f.password, "dest-password", "", "Destination password for authentication (if this option is used, --user option shouldn't include password)")
	return c
}

// config is what the flags say of the copy.
func (f mirrorFlags) config() (mirror.Config, error) {
	switch {
	case f.noDestPrefix && f.destPrefix != "":
		return mirror.Config{}, badArgs("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
	case f.txnOps == 0:
		return mirror.Config{}, badArgs("--max-txn-ops must be 1 or more")
	}
	dest := f.destPrefix
	if dest == "" && !f.noDestPrefix {
		dest = f.prefix
	}
	return mirror.Config{Prefix: f.prefix, DestPrefix: dest, Revision: f.revision, TxnOps: int(f.txnOps)}, nil
}

func (t *tool) mirrorTo(cmd *cobra.Command, destination string, f mirrorFlags) error {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	auth, err := t.destinationAuth(f)
	if err != nil {
		return err
	}
	source, err := t.clientSpec(cmd)
	if err != nil {
		return err
	}
	spec := at(source, destination) // bounds and times are the source's
	spec.Auth = auth
	spec.Secure = &clientv3.SecureConfig{Cert: f.cert, Key: f.key, Cacert: f.cacert, InsecureTransport: f.insecure}
	to, err := t.dial(spec)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := t.dial(source)
	if err != nil {
		return err
	}
	defer from.Close()
	for _, c := range []*clientv3.Client{from, to} { // later losses are waited for
		if err := t.connected(cmd.Context(), c.ActiveConnection()); err != nil {
			return fmt.Errorf("%v: %w", c.Endpoints(), err)
		}
	}
	return t.reportMirror(cmd.Context(), from, to, cfg)
}

// destinationAuth is what the client of the copy logs in with; nil is nothing.
func (t *tool) destinationAuth(f mirrorFlags) (*clientv3.AuthConfig, error) {
	switch {
	case f.user == "":
		return nil, nil
	case f.password != "":
		return &clientv3.AuthConfig{Username: f.user, Password: f.password}, nil
	}
	name, password, given := strings.Cut(f.user, ":")
	if !given {
		var err error
		if password, err = t.askPassword("Destination Password: "); err != nil {
			return nil, err
		}
	}
	return &clientv3.AuthConfig{Username: name, Password: password}, nil
}

// reportMirror mirrors until that ends, and tells meanwhile how far it has come.
func (t *tool) reportMirror(ctx context.Context, from, to *clientv3.Client, cfg mirror.Config) error {
	var progress mirror.Progress
	ended := make(chan error, 1)
	go func() { ended <- mirror.Run(ctx, from, to, cfg, &progress) }() // ends with ctx, or what ends it; awaited below
	total := time.NewTicker(mirrorReport)
	defer total.Stop()
	redraw := time.NewTicker(time.Second)
	defer redraw.Stop()
	bar := term.NewProgress(t.env.Stderr, "mirror", 0, term.Keys)
	defer bar.Done()
	var shown int64
	for {
		select {
		case err := <-ended:
			if revision := progress.Revision.Load(); revision > 0 {
				fmt.Fprintf(t.env.Stderr, "The destination has everything up to revision %d: --rev=%d goes on from there.\n", revision, revision+1)
			}
			return err
		case <-redraw.C:
			keys := progress.Keys.Load()
			bar.Add(keys - shown)
			shown = keys
		case <-total.C:
			fmt.Fprintln(t.env.Stdout, progress.Keys.Load())
		}
	}
}

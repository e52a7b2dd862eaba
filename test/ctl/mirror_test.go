package ctl

import (
	"context"
	"crypto/tls"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/test/cli"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// TestMirror mirrors a server with each tool, with each set of flags, and compares what has come to the copies.
func TestMirror(t *testing.T) {
	const secret = "root:pw"
	cases := []struct {
		name, flags string
		asRoot      bool // the copy asks who is there; the last of the cases
	}{
		{name: "all"},
		{name: "prefix", flags: "--prefix=a/"},
		{name: "another prefix", flags: "--prefix=a/ --dest-prefix=z/"},
		{name: "without the prefix", flags: "--prefix=a/ --no-dest-prefix"},
		{name: "beneath a prefix", flags: "--dest-prefix=below/"},
		{name: "one at a time", flags: "--max-txn-ops=1"},
		{name: "from a revision on", flags: "--rev=4"},
		{name: "user", flags: "--dest-user=" + secret, asRoot: true},
		{name: "password", flags: "--dest-user=root --dest-password=pw", asRoot: true},
	}
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		var copies [2]*cli.Tool
		for i, tool := range sides {
			copies[i] = cli.New(t, tool.Path, serve(t, tool.Server.Binary(), []func(*run.Config){flags("--bcrypt-cost=4")}))
		}
		withAuth := false
		for _, c := range cases {
			var got [2]string
			for i, tool := range sides {
				if c.asRoot && !withAuth {
					copies[i].OK(t, "user", "add", secret)
					copies[i].OK(t, "auth", "enable")
				}
				var as []string
				if c.asRoot {
					as = []string{"--user=" + secret}
				}
				got[i] = mirrored(t, tool, copies[i], append(strings.Fields(c.flags), copies[i].Server.Client), nil, as)
			}
			withAuth = withAuth || c.asRoot
			if got[0] != got[1] || !strings.Contains(got[0], "last") {
				t.Errorf("%s: %s\n--- etcd's etcdctl\n%s\n--- ours\n%s", c.name, c.flags, got[0], got[1])
			}
		}
	})
}

// mirrored runs make-mirror of a tool from its server to the emptied server of another while keys change, and returns the copy. The
// servers are asked with the flags from and as.
func mirrored(t *testing.T, tool, copied *cli.Tool, flags, from, as []string) string {
	t.Helper()
	source := func(args ...string) string { return tool.OK(t, append(args, from...)...) }
	copied.OK(t, append([]string{"del", "", "--from-key"}, as...)...)
	source("del", "", "--from-key")
	source("put", "a/1", "one")
	source("put", "b/1", "two")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if len(from) == 0 {
		from = []string{"--endpoints=" + tool.Server.Client}
	}
	cmd := exec.CommandContext(ctx, tool.Path, slices.Concat([]string{"make-mirror"}, from, flags)...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitCopy(t, ctx, copied, "one", as, &said)
	in := tool.Output(t, cli.Call{Args: append([]string{"txn"}, from...), Stdin: "\nput a/2 three\nput a/a/ four\ndel a/1\nput b/2 five\n\n\n"})
	if !strings.HasPrefix(in, "exit 0\nSUCCESS") {
		t.Fatal(in)
	}
	source("put", "a/3", "last")
	awaitCopy(t, ctx, copied, "last", as, &said)
	cancel()
	_ = cmd.Wait() // it was killed
	return copied.OK(t, append([]string{"get", "", "--from-key"}, as...)...)
}

// awaitCopy returns once the copy has a value.
func awaitCopy(t *testing.T, ctx context.Context, copied *cli.Tool, value string, as []string, said *strings.Builder) {
	t.Helper()
	for ; ; time.Sleep(20 * time.Millisecond) {
		if strings.Contains(copied.OK(t, append([]string{"get", "", "--from-key", "--print-value-only"}, as...)...), value+"\n") {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the copy has no %q: %s", value, said)
		}
	}
}

// guarded is a server that wants TLS and a certificate, with an authority of its own.
type guarded struct {
	settings        []func(*run.Config)
	ca, cert, key   string // files for a client
	strange, secret string // a certificate that this authority has not signed, and its key
}

func guard(t *testing.T, name string) guarded {
	t.Helper()
	dir := t.TempDir()
	ca := tlstest.NewCA(t, name)
	g := guarded{ca: filepath.Join(dir, "ca.pem")}
	tlstest.Write(t, g.ca, ca.CertPEM())
	serverCert, serverKey := ca.Issue(t, tlstest.Leaf{Name: "server", Hosts: []string{"127.0.0.1"}}).Files(t, dir, "server")
	g.cert, g.key = ca.Issue(t, tlstest.Leaf{Name: "client"}).Files(t, dir, "client")
	g.strange, g.secret = tlstest.NewCA(t, "foreign").Issue(t, tlstest.Leaf{Name: "stranger"}).Files(t, dir, "stranger")
	pair, err := tls.LoadX509KeyPair(g.cert, g.key)
	if err != nil {
		t.Fatal(err)
	}
	g.settings = []func(*run.Config){func(cfg *run.Config) {
		cfg.Args = append(cfg.Args, "--cert-file="+serverCert, "--key-file="+serverKey, "--trusted-ca-file="+g.ca, "--client-cert-auth", "--bcrypt-cost=4")
		cfg.TLS = &tls.Config{RootCAs: tlstest.Pool(ca), Certificates: []tls.Certificate{pair}}
	}}
	return g
}

// TestMirrorSecure mirrors between servers that both want TLS and a certificate, each of its own authority, as a user with a password,
// and holds what the tools say of files that are wrong against each other.
func TestMirrorSecure(t *testing.T) {
	source, dest := guard(t, "source"), guard(t, "dest")
	const secret = "root:pw"
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		var copies [2]*cli.Tool
		to := []string{"--dest-cacert=" + dest.ca, "--dest-cert=" + dest.cert, "--dest-key=" + dest.key, "--dest-user=" + secret}
		for i, tool := range sides {
			copied := cli.New(t, tool.Path, serve(t, tool.Server.Binary(), dest.settings))
			copies[i] = copied
			as := []string{"--endpoints=https://" + copied.Server.Client, "--cacert=" + dest.ca, "--cert=" + dest.cert, "--key=" + dest.key}
			copied.OK(t, append([]string{"user", "add", secret}, as...)...)
			copied.OK(t, append([]string{"auth", "enable"}, as...)...)
		}
		for _, flags := range [][]string{{"https://DEST"}, {"DEST", "--dest-insecure-transport=false"}, {"https://DEST", "--prefix=a/", "--dest-prefix=z/"},
			{"DEST", "--dest-insecure-transport"}} {
			var got [2]string
			for i, tool := range sides {
				from := []string{"--endpoints=https://" + tool.Server.Client, "--cacert=" + source.ca, "--cert=" + source.cert, "--key=" + source.key}
				as := []string{"--endpoints=https://" + copies[i].Server.Client, "--cacert=" + dest.ca, "--cert=" + dest.cert, "--key=" + dest.key, "--user=" + secret}
				all := slices.Concat(flags, to)
				all[0] = strings.Replace(all[0], "DEST", copies[i].Server.Client, 1)
				got[i] = mirrored(t, tool, copies[i], all, from, as)
			}
			if got[0] != got[1] || !strings.Contains(got[0], "last") {
				t.Errorf("%s\n--- etcd's etcdctl\n%s\n--- ours\n%s", flags, got[0], got[1])
			}
		}
		right := []string{"--dest-cacert=" + dest.ca, "--dest-cert=" + dest.cert, "--dest-key=" + dest.key}
		begin := func(i int, flags ...string) string {
			call := cli.Call{Args: slices.Concat([]string{"make-mirror", "--endpoints=https://SERVER", "--cacert=" + source.ca, "--cert=" + source.cert,
				"--key=" + source.key, "--command-timeout=1s"}, flags)}
			for k, arg := range call.Args {
				call.Args[k] = strings.Replace(arg, "DEST", copies[i].Server.Client, 1)
			}
			said := strings.ReplaceAll(sides[i].Run(t, call), copies[i].Server.Client, "DEST")
			return regexp.MustCompile(`"method":"[^"]*",`).ReplaceAllString(said, "") // etcd's copies what exists in puts, ours in transactions
		}
		for _, flags := range [][]string{
			{"https://DEST", "--dest-cacert=" + dest.ca, "--dest-cert=" + dest.cert, "--dest-key=" + dest.secret},
			{"https://DEST", "--dest-cacert=" + dest.ca, "--dest-cert=" + dest.cert},
			{"https://DEST", "--dest-cacert=none", "--dest-cert=" + dest.cert, "--dest-key=" + dest.key},
			append(right, "https://DEST", "--dest-user=root:wrong"),
			append(right, "https://DEST"),
		} {
			if want, got := begin(0, flags...), begin(1, flags...); want != got {
				t.Errorf("%s\n--- etcd's etcdctl\n%s\n--- ours\n%s", flags, want, got)
			}
		}
		for why, flags := range map[string][]string{ // etcd's waits for ever
			"signed by unknown authority":       {"https://DEST", "--dest-cacert=" + source.ca, "--dest-cert=" + dest.cert, "--dest-key=" + dest.key},
			"failed to verify certificate":      {"https://DEST"},
			"no connection within TIME: .*: .*": {"DEST"},
		} {
			if said := begin(1, flags...); !strings.HasPrefix(said, "exit status 1\n") || !regexp.MustCompile(why).MatchString(said) {
				t.Errorf("%s: %s\nwant %q", flags, said, why)
			}
		}
	}, source.settings...)
}

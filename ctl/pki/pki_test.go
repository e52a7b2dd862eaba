package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"holdfast/tlsconf"
	"holdfast/tlsconf/tlstest"
)

// tool runs the commands of this package below a root that has ctl's flags, in a directory of the test's own.
type tool struct {
	t   *testing.T
	dir string
}

func (u tool) run(args ...string) (out string, err error) {
	u.t.Helper()
	u.t.Chdir(u.dir)
	root := &cobra.Command{Use: "ctl", SilenceUsage: true, SilenceErrors: true}
	for _, flag := range []string{"cacert", "cert", "key"} {
		root.PersistentFlags().String(flag, "", "")
	}
	group := &cobra.Command{Use: "check"}
	group.AddCommand(CheckCommand())
	root.AddCommand(Command(), group)
	var both bytes.Buffer
	root.SetOut(&both)
	root.SetErr(&both)
	root.SetArgs(args)
	err = root.ExecuteContext(u.t.Context())
	return both.String(), err
}

// must runs commands, one a line, that have to work, and returns what the last one said.
func (u tool) must(lines string) (out string) {
	u.t.Helper()
	for line := range strings.Lines(lines) {
		var err error
		if out, err = u.run(strings.Fields(line)...); err != nil {
			u.t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	return out
}

func newTool(t *testing.T) tool { return tool{t, t.TempDir()} }

func (u tool) cert(name string) *x509.Certificate {
	u.t.Helper()
	pair, err := tlsconf.ReadPair(Paths(u.dir, name))
	if err != nil {
		u.t.Fatal(err)
	}
	return pair.Leaf
}

const everything = `pki ca
	pki server https://m1.example.com:2379 10.0.0.1:2379 10.0.0.1
	pki peer m1.example.com [fd00::1]:2380
	pki client team/root
`

const memberFlags = "check tls --cert-file=server.pem --key-file=server-key.pem --client-cert-auth --trusted-ca-file=ca.pem " +
	"--peer-cert-file=peer.pem --peer-key-file=peer-key.pem --peer-client-cert-auth --peer-trusted-ca-file=ca.pem"

// TestEverythingFits makes a whole set and has it checked: names, uses, modes, and that all accept each other.
func TestEverythingFits(t *testing.T) {
	u := newTool(t)
	u.must(everything)
	if got := strings.Join(hostsOf(u.cert("server")), " "); got != "m1.example.com localhost 10.0.0.1 127.0.0.1 ::1" {
		t.Errorf("the server's hosts: %s", got)
	}
	if got := strings.Join(hostsOf(u.cert("peer")), " "); got != "m1.example.com fd00::1" {
		t.Errorf("the peer's hosts: %s", got)
	}
	client := u.cert("team_root")
	if client.Subject.CommonName != "team/root" || len(hostsOf(client)) != 0 || len(client.ExtKeyUsage) != 1 {
		t.Errorf("the client's certificate: %s %v %v", client.Subject, hostsOf(client), client.ExtKeyUsage)
	}
	for name, want := range map[string]os.FileMode{"ca-key.pem": 0o600, "server-key.pem": 0o600, "team_root-key.pem": 0o600, "ca.pem": 0o644} {
		if info, err := os.Stat(filepath.Join(u.dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want mode %v", name, info, err, want)
		}
	}
	out := u.must(memberFlags + " --cacert=ca.pem --cert=team_root.pem --key=team_root-key.pem --host=10.0.0.1 --peer-host=fd00::1")
	for _, want := range []string{"towards clients:", "between members:", "of this client:", "members accept each other:", "client and member accept each other:", `at "10.0.0.1"`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "warning") {
		t.Errorf("a warning of a good set:\n%s", out)
	}
}

// TestNothingIsWrittenOver: not a key, not a certificate, and not half a pair.
func TestNothingIsWrittenOver(t *testing.T) {
	u := newTool(t)
	u.must(everything)
	before := read(t, u.dir, "server-key.pem")
	if _, err := u.run("pki", "server", "other"); !errors.Is(err, ErrExists) || read(t, u.dir, "server-key.pem") != before {
		t.Fatalf("a second server: %v", err)
	}
	if err := os.Remove(filepath.Join(u.dir, "server-key.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := u.run("pki", "server", "other"); !errors.Is(err, ErrExists) {
		t.Fatalf("beside a certificate without its key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(u.dir, "server-key.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a key was left behind: %v", err)
	}
}

// TestWhatCannotBeMade is said in a sentence.
func TestWhatCannotBeMade(t *testing.T) {
	u := newTool(t)
	u.must(everything)
	for args, want := range map[string]string{
		"pki server 0.0.0.0 --name=x":                                   "no address that others connect to",
		"pki server a,b --name=x":                                       "is no host",
		"pki peer https:// --name=x":                                    "is no host",
		"pki server a --name=x --days=0":                                "at least one day",
		"pki server a --name=x --ca=server.pem --ca-key=server-key.pem": "is not a CA",
		"pki server a --name=x --ca-key=server-key.pem":                 "do not match",
		"pki server a --name=x --ca=nowhere.pem":                        "no such file",
	} {
		if out, err := u.run(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q\n%s", args, err, want, out)
		}
		if _, err := os.Stat(filepath.Join(u.dir, "x-key.pem")); err == nil {
			t.Fatalf("%s left a key", args)
		}
	}
}

// TestLeafEndsWithItsAuthority: a longer life would end in refusals that nobody expects.
func TestLeafEndsWithItsAuthority(t *testing.T) {
	u := newTool(t)
	out := u.must("pki ca --days=10\npki server a")
	if !strings.Contains(out, "ends with its authority") || !u.cert("server").NotAfter.Equal(u.cert("ca").NotAfter) {
		t.Fatalf("%s until %v", out, u.cert("server").NotAfter)
	}
	ended, err := Make(Request{Kind: CA, CommonName: "old", Days: 1, Now: time.Now().Add(-48 * time.Hour)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ended.Write(u.dir, "old"); err != nil {
		t.Fatal(err)
	}
	if _, err := u.run("pki", "server", "b", "--name=b", "--ca=old.pem", "--ca-key=old-key.pem"); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Fatalf("signed by an authority that has ended: %v", err)
	}
}

// TestCheckExplains spoils a set in many ways and looks for the sentence that says how. The first is what the installation guide
// of document 1 has: authority, certificate and key each in another's place.
func TestCheckExplains(t *testing.T) {
	u := newTool(t)
	u.must(everything + "pki ca --name=other\npki server b --name=strange --ca=other.pem --ca-key=other-key.pem\npki client eve --ca=other.pem --ca-key=other-key.pem")
	short := tlstest.NewCA(t, "short")
	short.Issue(t, tlstest.Leaf{Name: "over", Hosts: []string{"a"}, Begin: time.Now().Add(-48 * time.Hour), End: time.Now().Add(-time.Hour)}).Files(t, u.dir, "over")
	short.Issue(t, tlstest.Leaf{Name: "early", Hosts: []string{"a"}, Begin: time.Now().Add(time.Hour), End: time.Now().Add(2 * time.Hour)}).Files(t, u.dir, "early")
	short.Issue(t, tlstest.Leaf{Name: "late", Hosts: []string{"a"}, Begin: time.Now().Add(-100 * time.Hour), End: time.Now().Add(time.Hour)}).Files(t, u.dir, "late")
	for _, c := range []struct {
		args string
		want []string
		fine bool
	}{
		{"--client-cert-auth --trusted-ca-file=team_root.pem --cert-file=ca.pem --key-file=team_root-key.pem",
			[]string{"--trusted-ca-file team_root.pem is not a CA", "cert and key do not match", "seems to be swapped"}, false},
		{"--cert-file=server-key.pem --key-file=server.pem", []string{"it may be swapped with"}, false},
		{"--cert-file=server.pem --key-file=nowhere.pem", []string{"nowhere.pem: no such file"}, false},
		{"--cert-file=server.pem", []string{"must both be given"}, false},
		{"--cert-file=over.pem --key-file=over-key.pem", []string{"has ended on"}, false},
		{"--cert-file=early.pem --key-file=early-key.pem", []string{"is not valid before"}, false},
		{"--cert-file=late.pem --key-file=late-key.pem", []string{"ends in 0 days"}, true},
		{"--cert-file=server.pem --key-file=server-key.pem --host=elsewhere", []string{"is not for elsewhere"}, false},
		{"--cert-file=ca.pem --key-file=ca-key.pem", []string{"it is the certificate of a CA"}, true},
		{"--peer-cert-file=strange.pem --peer-key-file=strange-key.pem --peer-trusted-ca-file=ca.pem",
			[]string{"no authority in --peer-trusted-ca-file vouches for it", "refuses the certificate it is shown"}, false},
		{"--cert-file=server.pem --key-file=server-key.pem --trusted-ca-file=ca.pem --cacert=ca.pem --cert=eve.pem --key=eve-key.pem",
			[]string{"who connects is refused", "unknown authority"}, false},
		{"--cert-file=server.pem --key-file=server-key.pem --trusted-ca-file=ca.pem --cacert=ca.pem",
			[]string{"who connects is refused", "didn't provide a certificate"}, false},
		{"--cert-file=server.pem --key-file=server-key.pem --cacert=other.pem", []string{"refuses the certificate it is shown"}, false},
		{"--cert=server.pem --key=team_root-key.pem", []string{"--cert server.pem, --key team_root-key.pem: cert and key do not match"}, false},
		{"--client-crl-file=ca.pem", []string{"holds no list of revoked certificates"}, false},
		{"", []string{"name the files to check"}, false},
		{"--config-file=x.yml --cert-file=server.pem", []string{"in place of the other flags"}, false},
		{"--config-file=nowhere.yml", []string{"nowhere.yml"}, false},
	} {
		out, err := u.run(append([]string{"check", "tls"}, strings.Fields(c.args)...)...)
		if (err == nil) != c.fine {
			t.Errorf("%s: %v\n%s", c.args, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: no %q in\n%s%v", c.args, want, out, err)
			}
		}
		if strings.Contains(out, "PRIVATE KEY") {
			t.Fatalf("%s shows a key", c.args)
		}
	}
}

// TestCheckReadsAFile: hosts are those that the member advertises, and a key that others may read is warned of.
func TestCheckReadsAFile(t *testing.T) {
	u := newTool(t)
	u.must(everything)
	text := `advertise-client-urls: https://m1.example.com:2379
listen-client-urls: https://0.0.0.0:2379
client-transport-security:
  cert-file: server.pem
  key-file: server-key.pem
`
	if err := errors.Join(os.WriteFile(filepath.Join(u.dir, "a.yml"), []byte(text), 0o600), os.Chmod(filepath.Join(u.dir, "server-key.pem"), 0o644)); err != nil {
		t.Fatal(err)
	}
	out := u.must("check tls --config-file=a.yml")
	if !strings.Contains(out, "chmod 600 server-key.pem") {
		t.Errorf("no word of a key that all can read:\n%s", out)
	}
	if err := os.WriteFile(filepath.Join(u.dir, "b.yml"), []byte(strings.Replace(text, "m1.", "m2.", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := u.run("check", "tls", "--config-file=b.yml"); err == nil || !strings.Contains(out, "is not for m2.example.com") {
		t.Errorf("a certificate for another host: %v\n%s", err, out)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/util/urllist"
)

// unit is the command line and the environment that systemd makes of testdata/etcd3.service and testdata/etcd.conf: the
// variables of EnvironmentFile reach the process, and ${NAME} in ExecStart is replaced by them.
func unit(t *testing.T) (args, environ []string) {
	t.Helper()
	env := map[string]string{}
	for line := range strings.Lines(read(t, "etcd.conf")) {
		if name, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			env[name] = v
			environ = append(environ, name+"="+v)
		}
	}
	text := strings.ReplaceAll(read(t, "etcd3.service"), "\\\n", " ")
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
			for _, word := range strings.Fields(command)[1:] {
				args = append(args, os.Expand(word, func(name string) string { return env[name] }))
			}
		}
	}
	return args, environ
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Goal: a unit that runs etcd 3.4 today starts this server with the same meaning; what has none here is named, and the
// variables of its EnvironmentFile disturb nobody.
func TestB12SystemdUnit(t *testing.T) {
	args, environ := unit(t)
	c, notes, err := Parse(Sources{Args: args, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "etcd-10.64.10.228" || c.HeartbeatMS != 500 || c.ElectionTicks() != 10 || c.DataDir != "/var/lib/storageos-etcd" ||
		c.QuotaBytes != 8589934592 || c.SnapshotCount != 100000 || c.InitialClusterToken != "etcd-token" {
		t.Errorf("%+v", c)
	}
	if _, revisions, err := c.Compaction(); revisions != 20000 || err != nil {
		t.Errorf("compaction keeps %d revisions, %v", revisions, err)
	}
	if got := urllist.Texts(c.ListenClientURLs); !slices.Equal(got, []string{"http://10.64.10.228:2379", "http://127.0.0.1:2379"}) {
		t.Errorf("listens on %v", got)
	}
	members, err := c.InitialMembers()
	if err != nil || len(members) != 3 || urllist.Texts(members["etcd-10.64.12.111"])[0] != "http://10.64.12.111:2380" {
		t.Errorf("members %v, %v", members, err)
	}
	if err := c.CheckBootstrap(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"max-snapshots", "max-wals"} {
		if !strings.Contains(notes.String(), "flag has no effect flag="+name+" ") {
			t.Errorf("--%s is not named:\n%s", name, notes)
		}
	}
	if strings.Contains(notes.String(), "environment") {
		t.Errorf("variables that are not etcd's were named:\n%s", notes)
	}
}

// Goal: the same unit with TLS: switches without a value, https everywhere.
func TestB12SystemdUnitWithTLS(t *testing.T) {
	args, environ := unit(t)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "http://", "https://")
	}
	args = append(args, "--peer-auto-tls", "--client-cert-auth", "--trusted-ca-file=/ca.pem", "--cert-file=/c.pem", "--key-file=/k.pem")
	c, _, err := Parse(Sources{Args: args, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Peer.Auto || c.Peer.Given() || !c.Client.ClientCertAuth || !c.Client.Given() || c.Client.TrustedCAFile != "/ca.pem" {
		t.Errorf("client %+v, peer %+v", c.Client, c.Peer)
	}
}

package ctl

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"holdfast/test/cli"
	"holdfast/test/run"
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
				got[i] = mirrored(t, tool, copies[i], strings.Fields(c.flags), as)
			}
			withAuth = withAuth || c.asRoot
			if got[0] != got[1] || !strings.Contains(got[0], "last") {
				t.Errorf("%s: %s\n--- etcd's etcdctl\n%s\n--- ours\n%s", c.name, c.flags, got[0], got[1])
			}
		}
	})
}

// mirrored runs make-mirror of a tool from its server to the emptied server of another while keys change, and returns the copy.
func mirrored(t *testing.T, tool, copied *cli.Tool, flags, as []string) string {
	t.Helper()
	copied.OK(t, append([]string{"del", "", "--from-key"}, as...)...)
	tool.OK(t, "del", "", "--from-key")
	tool.OK(t, "put", "a/1", "one")
	tool.OK(t, "put", "b/1", "two")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool.Path, append([]string{"make-mirror", "--endpoints=" + tool.Server.Client, copied.Server.Client}, flags...)...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitCopy(t, ctx, copied, "one", as, &said)
	in := tool.Output(t, cli.Call{Args: []string{"txn"}, Stdin: "\nput a/2 three\nput a/a/ four\ndel a/1\nput b/2 five\n\n\n"})
	if !strings.HasPrefix(in, "exit 0\nSUCCESS") {
		t.Fatal(in)
	}
	tool.OK(t, "put", "a/3", "last")
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

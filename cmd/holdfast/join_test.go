package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/test/etcd"
)

// process is an etcd or a Holdfast.
type process struct {
	name, client, peer string
	words              *strings.Builder // of standard error, once it has ended
}

// startProcess starts program, the name of a binary or its path, until the test ends.
func startProcess(t *testing.T, ctx context.Context, program, name string, n *process, flags ...string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, program, append([]string{
		"--name", name, "--data-dir", filepath.Join(t.TempDir(), name), "--listen-client-urls", n.client, "--advertise-client-urls", n.client,
		"--listen-peer-urls", n.peer, "--initial-advertise-peer-urls", n.peer,
	}, flags...)...)
	n.name, n.words = name, new(strings.Builder)
	cmd.Stderr = n.words
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may have ended
		_ = cmd.Wait()         // it was killed, and says so
		if t.Failed() {
			t.Logf("%s ended with:\n%s", name, n.words.String()[max(0, n.words.Len()-4<<10):])
		}
	})
}

// addresses are for a process that is to be started.
func addresses(t *testing.T) *process {
	t.Helper()
	return &process{client: etcd.FreeURL(t), peer: etcd.FreeURL(t)}
}

// ctl runs etcdctl against the process.
func (n *process) ctl(t *testing.T, ctx context.Context, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, etcd.Binary(t, "etcdctl"), append([]string{"--endpoints", n.client}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %v\n%s", n.name, args, err, out)
	}
	return string(out)
}

var printed = regexp.MustCompile(`ETCD_INITIAL_CLUSTER="([^"]*)"`)

// TestJoinAcross: a Holdfast joins a running etcd, and an etcd a running Holdfast, by what etcdctl member add prints. The
// newcomer hears of what was there, and the other of what it writes.
func TestJoinAcross(t *testing.T) {
	for name, programs := range map[string][2]string{
		"to etcd": {etcd.Binary(t, "etcd"), "holdfast"}, "to Holdfast": {"holdfast", etcd.Binary(t, "etcd")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			first, second := addresses(t), addresses(t)
			startProcess(t, ctx, programs[0], "first", first)
			if err := awaitHealth(first.client); err != nil {
				t.Fatal(err)
			}
			first.ctl(t, ctx, "put", "before", "1")
			added := first.ctl(t, ctx, "member", "add", "second", "--peer-urls", second.peer)
			cluster := printed.FindStringSubmatch(added)
			if cluster == nil {
				t.Fatalf("member add printed\n%s", added)
			}
			startProcess(t, ctx, programs[1], "second", second, "--initial-cluster-state", "existing", "--initial-cluster", cluster[1])
			if err := awaitHealth(second.client); err != nil {
				t.Fatal(err)
			}
			second.ctl(t, ctx, "put", "after", "2")
			for _, n := range []*process{first, second} {
				if got := n.ctl(t, ctx, "get", "--prefix", "", "--print-value-only"); got != "2\n1\n" {
					t.Errorf("%s has %q", n.name, got)
				}
				if list := n.ctl(t, ctx, "member", "list"); strings.Count(list, "started") != 2 {
					t.Errorf("%s lists\n%s", n.name, list)
				}
			}
		})
	}
}

package ctl

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/run"
)

// namespace is a network with nothing but a loopback, and a table of hosts, in which processes can be started.
type namespace struct {
	within []string // what stands before the command of a process that is to live there
}

// newNamespace makes one, which lasts as long as the test. hosts are lines of /etc/hosts.
func newNamespace(t *testing.T, hosts string) namespace {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("unshare", "--net", "--mount", "sh", "-euc", `mount --bind "$0" /etc/hosts; ip link set lo up; echo ready; exec cat`, file)
	in, err := holder.StdinPipe() // cat ends with it
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	holder.Stderr = os.Stderr
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = holder.Wait() // its exit code says nothing
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil && err != io.EOF || line != "ready\n" {
		t.Fatalf("no network: %q, %v", line, err)
	}
	return namespace{within: []string{"nsenter", "--target", fmt.Sprint(holder.Process.Pid), "--net", "--mount"}}
}

// startAt starts three members in the namespace whose clients' ports are 2379, one on each of three addresses.
func (ns namespace) startAt(t *testing.T, binary string, addresses []string) {
	t.Helper()
	var members []*run.Server
	var pairs []string
	for i, address := range addresses {
		s, err := run.Place(run.Config{Binary: binary, Name: fmt.Sprint("etcd-", i), Dir: t.TempDir(), Within: ns.within,
			Args: []string{"--quota-backend-bytes=2147483648"}})
		if err != nil {
			t.Fatal(err)
		}
		s.Client, s.Peer = address+":2379", address+":2380"
		members, pairs = append(members, s), append(pairs, fmt.Sprintf("etcd-%d=%s", i, s.PeerURL()))
	}
	for _, s := range members {
		s.Join(strings.Join(pairs, ","))
		start(t, s)
	}
}

// TestDocuments runs each command line of the documents as it stands there, by bash, with both tools against one cluster at the
// addresses that the documents name. i is 0, 1 and 2 in turn, CLIENT_PORT is 2379, `oc exec -t POD --` runs what follows it with the
// endpoints that such a pod knows, and ten million puts are three.
func TestDocuments(t *testing.T) {
	skipUnlessRoot(t)
	if testing.Short() {
		t.Skip("starts servers and tools")
	}
	text, err := os.ReadFile("documents.txt")
	if err != nil {
		t.Fatal(err)
	}
	addresses, hosts := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}, "127.0.0.1 localhost\n"
	for i, address := range addresses {
		hosts += fmt.Sprintf("%s etcd-%d.etcd-headless.etcd.svc.cluster.local\n", address, i)
	}
	theirs, ours := filepath.Dir(etcd.Binary(t, "etcdctl")), filepath.Dir(oursAsEtcdctl(t))
	for _, kind := range kinds(t) {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t, hosts)
			ns.startAt(t, kind.binary, addresses)
			d := readDifferences(t)
			shell := &cli.Tool{Path: "bash", Within: ns.within, Dir: t.TempDir(), Drop: d.texts}
			execute := func(script, tools string) string {
				return shell.Run(t, cli.Call{Args: []string{"-c", script}, Cells: strings.Contains(script, "=table"),
					Env: []string{"CLIENT_PORT=2379", "PATH=" + tools + ":" + os.Getenv("PATH")}})
			}
			for ready := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
				said := execute("etcdctl endpoint health --cluster && etcdctl endpoint status --cluster", theirs)
				if strings.Count(said, "is healthy") == 3 && strings.Count(said, ", 3.7.0, ") == 3 {
					break
				}
				if time.Now().After(ready) {
					t.Fatal(said)
				}
			}
			ran := 0
			for entry := range strings.Lines(string(text)) {
				at, line, _ := strings.Cut(strings.TrimSpace(entry), " ")
				if at == "#" {
					continue
				}
				line = strings.Replace(line, "10000000", "3", 1)
				for i := range 3 {
					script := fmt.Sprintf("i=%d; oc() { shift 4; ETCDCTL_ENDPOINTS=http://127.0.0.1:2379,http://127.0.0.2:2379,http://127.0.0.3:2379 \"$@\"; }\n%s", i, line)
					want, got := execute(script, theirs), execute(script, ours)
					if want != got || !strings.HasPrefix(want, "exit 0\n") {
						t.Errorf("%s: %s\n--- etcd's etcdctl\n%s\n--- ours\n%s", at, line, want, got)
					}
					ran++
				}
			}
			if got := execute("etcdctl get foo --prefix --keys-only", theirs); got != "exit 0\nfoo0\n\nfoo1\n\nfoo2\n\n" {
				t.Errorf("the loop has put %q", got)
			}
			t.Logf("%d runs", ran)
		})
	}
}

package clients

import (
	_ "embed"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/test/cli"
	"holdfast/test/etcd"
)

//go:embed unserved.txt
var unservedList string

// probes names every part of the protocol that a server may lack, with a call that shows whether it does.
var probes = map[string]string{
	"members":   "member remove 1234",
	"downgrade": "downgrade validate 3.6",
	"users":     "auth status",
}

// unserved returns the parts that the server at tl lacks, and fails the test where that is not what the list says.
// etcd serves all, whatever the list says.
func unserved(t *testing.T, tl *cli.Tool) map[string]bool {
	t.Helper()
	listed := map[string]bool{}
	for line := range strings.Lines(unservedList) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		part, call, _ := strings.Cut(line, "|")
		part, call = strings.TrimSpace(part), strings.TrimSpace(call)
		if probes[part] != call {
			t.Fatalf("unserved.txt shows %q by %q, the tests by %q", part, call, probes[part])
		}
		listed[part] = true
	}
	refused := map[string]bool{}
	for _, part := range slices.Sorted(maps.Keys(probes)) {
		line := probes[part]
		out := tl.Output(t, cli.Call{Args: strings.Fields(line)})
		refused[part] = strings.Contains(out, "code = Unimplemented")
		switch {
		case refused[part] && !listed[part]:
			t.Errorf("unserved.txt says nothing of %s, yet etcdctl %s answers: %s", part, line, out)
		case !refused[part] && listed[part] && !isEtcd(t):
			t.Errorf("%s is served now; its line in unserved.txt can go", part)
		}
		if refused[part] {
			t.Logf("left out, because this version refuses it: %s", part)
		}
	}
	return refused
}

// isEtcd says whether the binary under test is etcd itself.
func isEtcd(t *testing.T) bool {
	t.Helper()
	ours, err := os.Stat(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.Stat(etcd.Binary(t, "etcd"))
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(ours, theirs)
}

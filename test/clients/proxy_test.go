package clients

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// serveProxy starts a program's gRPC proxy before a server and stops it with the test. It returns once it is healthy.
func serveProxy(t *testing.T, program string, server *run.Server, flags ...string) (address string) {
	t.Helper()
	address = run.Beside{Program: program, Kind: "grpc-proxy", Flags: append([]string{"--endpoints", server.Client}, flags...)}.Start(t)
	body := ""
	for range 1000 {
		if _, body = httpGet(t.Context(), "http://"+address+"/proxy/health"); strings.Contains(body, `"true"`) {
			return address
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the proxy is not healthy: %s", body)
	return ""
}

// httpGet is status and body, or the error.
func httpGet(ctx context.Context, url string) (int, string) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err.Error()
	}
	body, err := io.ReadAll(r.Body)
	if closed := r.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(body)
}

// testNames finds what a run of clientv3's program says of its tests.
var testNames = regexp.MustCompile(`(?m)^--- (PASS|FAIL): (\w+)`)

// throughProxy runs the program for etcd's client against an address, and returns the tests that pass and those that fail.
func throughProxy(t *testing.T, address string, flags ...string) (passed, failed []string, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	out = outputOf(ctx, "clientv3", []string{"HOLDFAST_ENDPOINT=" + address, "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0"},
		"go", append([]string{"test", "-count=1", "-trimpath", "-v", "."}, flags...)...)
	for _, m := range testNames.FindAllStringSubmatch(out, -1) {
		if m[1] == "PASS" {
			passed = append(passed, m[2])
		} else {
			failed = append(failed, m[2])
		}
	}
	return passed, failed, out
}

// TestClientV3ThroughProxies runs the program for etcd's client through gRPC proxies: etcd's before etcd, and ours before etcd and
// before the server. What passes through etcd's passes through ours, and what fails through ours is known.
func TestClientV3ThroughProxies(t *testing.T) {
	ours, theirs := binary(t), etcd.Binary(t, "etcd")
	// etcd's proxy does not answer when it is asked for progress; the test would wait until its end.
	reference, lacks, _ := throughProxy(t, serveProxy(t, theirs, serve(t, theirs)), "-skip=TestWatchProgress")
	t.Logf("through etcd's proxy %d tests pass, and fail: %v", len(reference), lacks)
	if len(reference) < 10 {
		t.Fatalf("only %v pass through etcd's proxy", reference)
	}
	for _, c := range []struct{ name, server string }{{"before etcd", theirs}, {"before the server", ours}} {
		t.Run(c.name, func(t *testing.T) {
			passed, failed, out := throughProxy(t, serveProxy(t, ours, serve(t, c.server)))
			for _, name := range reference {
				if !slices.Contains(passed, name) {
					t.Errorf("%s passes through etcd's proxy and not through ours", name)
				}
			}
			// TestStatus asks for the members and their ids, and is told of proxies, which have none; TestErrors sends more than
			// --max-send-bytes.
			if !slices.Equal(failed, []string{"TestErrors", "TestStatus"}) || !slices.Equal(failed, lacks) {
				t.Errorf("fail: %v, through etcd's proxy: %v\n%s", failed, lacks, out)
			}
		})
	}
}

// outputOf is what a program writes, however it ends.
func outputOf(ctx context.Context, dir string, env []string, program string, args ...string) string {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}

// TestProxyFlags: the gateway and the gRPC proxy have etcd's flags, with the same defaults and the same help.
func TestProxyFlags(t *testing.T) {
	ours := filepath.Join(t.TempDir(), "etcd")
	if err := os.Symlink(binary(t), ours); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"gateway", "grpc-proxy"} {
		want := outputOf(t.Context(), "", nil, etcd.Binary(t, "etcd"), command, "start", "--help")
		got := outputOf(t.Context(), "", nil, ours, command, "start", "--help")
		if want != got || !strings.Contains(want, "--listen-addr") {
			t.Errorf("%s: etcd:\n%s\nthe binary:\n%s", command, want, got)
		}
	}
}

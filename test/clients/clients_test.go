package clients

import (
	"bytes"
	"context"
	"fmt"
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

// clientTimeout bounds one client program.
const clientTimeout = 3 * time.Minute

// binary returns the path of the server under test.
func binary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers and client programs")
	}
	if path := os.Getenv("HOLDFAST_BINARY"); path != "" {
		return path
	}
	return run.Holdfast(t)
}

// serve starts a server on an empty folder and stops it with the test.
func serve(t *testing.T, path string) *run.Server {
	t.Helper()
	return serveWith(t, run.Config{Binary: path, Dir: t.TempDir()})
}

// serveWith does the same with settings of the caller's. The program is started by the name etcd, under which Holdfast
// is etcd's server command.
func serveWith(t *testing.T, cfg run.Config) *run.Server {
	t.Helper()
	link := filepath.Join(t.TempDir(), "etcd")
	if err := os.Symlink(cfg.Binary, link); err != nil {
		t.Fatal(err)
	}
	cfg.Binary = link
	s, err := run.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's last words:\n%s", s.LogTail(15))
		}
		s.Kill()
	})
	return s
}

// execute runs a client program in dir and fails the test, showing what it wrote, when it does.
func execute(t *testing.T, dir string, env []string, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// TestClientV3 runs the program in clientv3 with each version of the client, each time against a server of its own.
func TestClientV3(t *testing.T) {
	path := binary(t)
	for _, version := range []string{"3.7", "3.6", "3.5"} {
		t.Run(version, func(t *testing.T) {
			modfile := "go.mod"
			if version != "3.7" {
				modfile = fmt.Sprintf("client-%s.mod", version)
			}
			server := serve(t, path)
			var left []string
			for part, refused := range unserved(t, cli.New(t, etcd.Binary(t, "etcdctl"), server)) {
				if refused {
					left = append(left, part)
				}
			}
			out := execute(t, "clientv3", []string{"HOLDFAST_ENDPOINT=" + server.Client, "HOLDFAST_UNSERVED=" + strings.Join(left, ","), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0"},
				"go", "test", "-count=1", "-trimpath", "-modfile="+modfile, ".")
			t.Log(strings.TrimSpace(out))
		})
	}
}

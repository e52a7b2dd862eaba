package crash

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// Goal: a member that cannot start says so in one sentence that tells what to do, and exits with code 1. Method: the shipped
// binary, each time with one thing wrong.
func TestBinaryRefusesToStart(t *testing.T) {
	binary := run.Holdfast(t)
	running, err := run.Start(t.Context(), run.Config{Binary: binary, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer running.Kill()
	for _, c := range []struct {
		name string
		// args are the flags that make it fail; --data-dir among them if it is the directory that is wrong.
		args []string
		want string
	}{
		{"a second process on the same directory", []string{"--data-dir=" + running.Data}, "is in use by another process"},
		{"a directory of etcd's", []string{"--data-dir=" + etcdDirectory(t)}, "belongs to etcd"},
		{"a newer format", []string{"--data-dir=" + newerDirectory(t, binary)}, "start it with the version that wrote it, or a newer one"},
		{"a port in use", []string{"--listen-client-urls=http://" + running.Client}, "stop that process or change --listen-client-urls"},
		{"a host name to listen on", []string{"--listen-client-urls=http://example.com:2379"}, "expected IP in URL for binding (http://example.com:2379)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, sentence := refusal(t, binary, c.args)
			if code != 1 || !strings.Contains(sentence, c.want) || strings.Contains(sentence, "\n") {
				t.Errorf("exit code %d and %q, wanted 1 and one sentence with %q", code, sentence, c.want)
			}
		})
	}
}

// refusal starts the binary on free ports and returns its exit code and what its last line says is wrong.
func refusal(t *testing.T, binary string, args []string) (code int, sentence string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	peer := etcd.FreeURL(t)
	args = append([]string{
		"--data-dir=" + t.TempDir(), "--listen-client-urls=" + etcd.FreeURL(t), "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
	}, args...)
	out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
	var exited *exec.ExitError
	if !errors.As(err, &exited) {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var last struct{ Level, Error string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatalf("the last line is no log line: %v\n%s", err, out)
	}
	return exited.ExitCode(), last.Error
}

// etcdDirectory is a data directory that etcd made.
func etcdDirectory(t *testing.T) string {
	t.Helper()
	s, err := run.Start(t.Context(), run.Config{Binary: etcd.Binary(t, "etcd"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return s.Data
}

// newerDirectory is a data directory of a version to come.
func newerDirectory(t *testing.T, binary string) string {
	t.Helper()
	s, err := run.Start(t.Context(), run.Config{Binary: binary, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Data, "member", "FORMAT"), []byte("1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Data
}

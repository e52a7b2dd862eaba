package clients

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/etcd"
)

// TestNode runs the JavaScript client in node. Its packages are installed once per checkout, exactly as
// package-lock.json pins them. A machine without node or npm cannot run it.
func TestNode(t *testing.T) {
	path := binary(t)
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("this machine has no %s, which the JavaScript client needs", program)
		}
	}
	packages := installPackages(t)
	server := serve(t, path)
	program, err := filepath.Abs(filepath.Join("node", "client.js"))
	if err != nil {
		t.Fatal(err)
	}
	out := execute(t, packages, []string{
		"HOLDFAST_ENDPOINT=http://" + server.Client,
		"NODE_PATH=" + filepath.Join(packages, "node_modules"),
	}, "node", program)
	t.Log(strings.ReplaceAll(strings.TrimSpace(out), "\n", ", "))
}

// installPackages returns the folder that holds node_modules. The copy of the lock file beside it is written last and
// says for what the installation is complete.
func installPackages(t *testing.T) string {
	t.Helper()
	root, err := etcd.Root()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join("node", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".cache", "clients-node")
	installed := filepath.Join(dir, "installed-lock.json")
	if old, err := os.ReadFile(installed); err == nil && bytes.Equal(old, lock) {
		return dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		data, err := os.ReadFile(filepath.Join("node", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	execute(t, dir, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	if err := os.WriteFile(installed, lock, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

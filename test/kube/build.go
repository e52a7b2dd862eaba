package kube

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// version is the Kubernetes whose API server is built; a test keeps it equal to the requirement in apiserver/go.mod.
const version = "1.36.3"

// root returns the folder of the repository: the nearest one upwards whose go.mod names the module holdfast.
func root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module holdfast\n") {
			return dir, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("find the repository: %w", err)
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the repository: no go.mod of module holdfast in %s or above it", start)
		}
	}
}

// buildAPIServer returns the path of kube-apiserver and builds it if it is missing, which takes about five minutes of
// one core on a machine that never compiled it. Any number of processes may ask at once: one builds, the others wait.
func buildAPIServer(root string) (string, error) {
	dir := filepath.Join(root, ".cache", "kube-"+version)
	path := filepath.Join(dir, "kube-apiserver")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build kube-apiserver: %w", err)
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", fmt.Errorf("build kube-apiserver: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	const stamp = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	ldflags := fmt.Sprintf("-s -w -X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s",
		stamp, version, stamp, major, stamp, minor)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", ldflags, "-o", path+".new",
		"k8s.io/kubernetes/cmd/kube-apiserver")
	cmd.Dir = filepath.Join(root, "test", "kube", "apiserver")
	// Neither a workspace nor flags meant for the product may reach this build.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build kube-apiserver %s: %w\n%s", version, err, out)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", fmt.Errorf("build kube-apiserver: %w", err)
	}
	return path, nil
}

// etcdPrograms returns the folder that holds the real etcd and its tools; the repository's own helper builds them.
func etcdPrograms(root string) (string, error) {
	cmd := exec.Command("go", "run", "./test/etcd/build")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// lock takes an exclusive lock on the file at path; the kernel drops it when the process ends.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

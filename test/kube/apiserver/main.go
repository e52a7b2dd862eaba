// Command apiserver builds kube-apiserver once per checkout and prints its path.
//
// The requirement stands in a module of its own, in module/, which holds nothing else: the API server brings a client of
// etcd and a version of everything that must not mix with ours. A build from nothing takes about five minutes of one
// core and the download of 230 modules; everyone after the first gets the path at once.
//
//	Shape   .cache/kube-1.36.3/kube-apiserver   a static binary; it appears whole, by one rename
//	        .cache/kube-1.36.3.lock             held with flock while one process builds
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// version is the Kubernetes whose API server is built; a test keeps it equal to the requirement in module/go.mod.
const version = "1.36.3"

func main() {
	path, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}

// build returns the path of the program and builds it if it is missing.
func build() (string, error) {
	root, err := root()
	if err != nil {
		return "", err
	}
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
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", stamp(), "-o", path+".new", "k8s.io/kubernetes/cmd/kube-apiserver")
	cmd.Dir = filepath.Join(root, "test", "kube", "apiserver", "module")
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

// stamp returns the linker's flags: the version, which Kubernetes refuses to do without, and no debug information.
func stamp() string {
	const pkg = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return fmt.Sprintf("-s -w -X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s", pkg, version, pkg, major, pkg, minor)
}

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

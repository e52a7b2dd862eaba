package kube

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// findPrograms builds what is missing of kube-apiserver, etcd and etcdctl, and returns their paths with etcd as the
// store. It expects to run in this package's folder, as tests do.
func findPrograms() (programs, error) {
	server, err := goRun(".", "./apiserver")
	if err != nil {
		return programs{}, err
	}
	etcd, err := goRun(top, "./test/etcd/build")
	if err != nil {
		return programs{}, err
	}
	return programs{store: filepath.Join(etcd, "etcd"), etcdctl: filepath.Join(etcd, "etcdctl"), apiserver: server}, nil
}

// top is the root of the repository.
const top = "../.."

// goRun runs a command of the repository and returns the line it prints.
func goRun(dir, pkg string) (string, error) {
	cmd := exec.Command("go", "run", pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go run %s: %w", pkg, err)
	}
	return strings.TrimSpace(string(out)), nil
}

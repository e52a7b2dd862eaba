// Package etcd gives tests the real etcd: its server, etcdctl and etcdutl, built once per checkout from their modules.
//
// The product must never depend on etcd's server, so the requirement stands in a module of its own, test/etcd/module,
// which holds nothing else. This package runs the go tool there and keeps the results under .cache at the root of the
// repository. A test says
//
//	cmd := exec.Command(etcd.Binary(t, "etcd"), "--data-dir", t.TempDir())
//	out, err := exec.Command(etcd.Binary(t, "etcdctl"), "endpoint", "status").Output()
//
// and the first caller pays for the build (about 45 s of two cores on a machine that never compiled etcd); everyone
// after it gets a path at once. `go run ./test/etcd/build` does the same from a Makefile and prints the folder.
//
// Older versions, whose data ours must take, stand in modules of their own beside it (Older).
//
//	Shape   .cache/etcd-3.7.3/{etcd,etcdctl,etcdutl}   static binaries; the folder appears whole, by one rename
//	        .cache/etcd-3.7.3.lock                     held with flock while one process builds
//	Errors  a failed build is returned with the go tool's own output
package etcd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Version is the etcd that is built: the one whose version our server reports as its own. A test keeps it equal to
// the requirement in module/go.mod.
const Version = "3.7.3"

// The last versions of etcd's older lines, which Older builds.
const (
	Version35 = "3.5.35"
	Version36 = "3.6.16"
)

// modules maps a version to the folder whose go.mod requires it.
var modules = map[string]string{Version: "module", Version36: "module36", Version35: "module35"}

// programs maps the name of a binary to the package it is built from.
var programs = map[string]string{
	"etcd":    "go.etcd.io/etcd/server/v3",
	"etcdctl": "go.etcd.io/etcd/etcdctl/v3",
	"etcdutl": "go.etcd.io/etcd/etcdutl/v3",
}

// Test is what this package needs of a testing.TB, without the package testing, which no program should carry.
type Test interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Binary returns the path of etcd's program of that name: "etcd", "etcdctl" or "etcdutl". It builds all three when
// they are missing and fails the test when they cannot be built.
func Binary(t Test, name string) string {
	t.Helper()
	if programs[name] == "" {
		t.Fatalf("etcd has no program %q", name)
	}
	dir, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// Build returns the folder that holds the three programs, building them if it does not exist yet. Any number of
// processes may call it at once: one builds, the others wait for it.
func Build() (string, error) { return Older(Version) }

// Older is Build for another version: Version35 or Version36. Only long forms of tests use them, and do without where the modules
// cannot be had.
func Older(version string) (string, error) {
	if modules[version] == "" {
		return "", fmt.Errorf("build etcd %s: it is none of the versions that are known here", version)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "etcd-"+version)
	if built(dir) {
		return dir, nil
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if built(dir) { // by whoever held the lock before us
		return dir, nil
	}
	return dir, build(root, dir, version)
}

// Root returns the folder of the repository: the nearest one, upwards from the working directory, whose go.mod names
// the module holdfast.
func Root() (string, error) {
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

// built says whether dir is complete. Checking for the folder is enough: it is renamed into place whole.
func built(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// build compiles the programs into a folder beside dir and renames it to dir.
func build(root, dir, version string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "etcd-build-")
	if err != nil {
		return fmt.Errorf("build etcd %s: %w", version, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }() // gone already when the rename succeeded
	for name, pkg := range programs {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(tmp, name), pkg)
		cmd.Dir = filepath.Join(root, "test", "etcd", modules[version])
		// Neither a workspace nor flags meant for the product may reach this build.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s of etcd %s: %w\n%s", name, version, err, out)
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("build etcd %s: %w", version, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("build etcd %s: %w", version, err)
	}
	return nil
}

// lock takes an exclusive lock on the file at path, creating it and its folder; the kernel drops it when the process
// ends, so a killed build leaves nothing stuck.
func lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
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

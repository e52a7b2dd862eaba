package metrics

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/test/etcd"
)

// debian returns the path of a program of Debian's package prometheus. Where it is not installed, the package is fetched and unpacked
// below .cache, once; where that cannot be done, the test is skipped.
func debian(t *testing.T, program string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("fetches and starts Prometheus")
	}
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	root, err := etcd.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".cache", "prometheus")
	path := filepath.Join(dir, "usr", "bin", program)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := unpack(dir); err != nil {
		t.Skipf("waits for a machine on which Debian's package prometheus can be had: %v", err)
	}
	return path
}

// unpack fetches the package into a folder of its own and renames it to dir, so that dir is whole or not there.
func unpack(dir string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "prometheus-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // gone already when the rename succeeded
	for _, argv := range [][]string{
		{"apt-get", "download", "prometheus"},
		{"sh", "-c", "dpkg-deb --extract prometheus_*.deb ."},
	} {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = tmp
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", argv, err, out)
		}
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

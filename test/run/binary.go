package run

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"holdfast/test/etcd"
)

// Holdfast builds the binary as it is shipped and returns its path.
func Holdfast(t etcd.Test) string {
	t.Helper()
	return built(t, "holdfast", shippedOnce)
}

// HoldfastWithFailpoints builds the binary that can be ended at its durable steps.
func HoldfastWithFailpoints(t etcd.Test) string {
	t.Helper()
	return built(t, "holdfast-failpoints", failpointsOnce, "-tags=failpoints")
}

// Each binary is built once per run of the tests, so that it is that of the sources.
var shippedOnce, failpointsOnce = new(sync.Once), new(sync.Once)

func built(t etcd.Test, name string, once *sync.Once, flags ...string) string {
	t.Helper()
	root, err := etcd.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "bin", name)
	once.Do(func() {
		cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "./cmd/holdfast")...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", path, err, out)
		}
	})
	return path
}

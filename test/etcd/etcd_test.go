package etcd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestVersionsAreTheOnesRequired compares the versions with the requirements in the nested modules, so that one cannot move
// without the other.
func TestVersionsAreTheOnesRequired(t *testing.T) {
	for version, folder := range modules {
		mod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		for name, pkg := range programs {
			if want := pkg + " v" + version; !strings.Contains(string(mod), want+" ") && !strings.Contains(string(mod), want+"\n") {
				t.Errorf("%s/go.mod does not require %q for %s", folder, want, name)
			}
		}
	}
}

// TestBinaries builds the programs from many callers at once and asks each what it is.
func TestBinaries(t *testing.T) {
	if testing.Short() {
		t.Skip("builds etcd")
	}
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			if _, err := Build(); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	for name, args := range map[string][]string{
		"etcd":    {"--version"},
		"etcdctl": {"version"},
		"etcdutl": {"version"},
	} {
		out, err := exec.Command(Binary(t, name), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		if !strings.Contains(string(out), Version) {
			t.Errorf("%s %v does not mention %s:\n%s", name, args, Version, out)
		}
	}
}

package cluster

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"holdfast/test/etcd"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "the first round; 0 draws one")
	roundsFlag  = flag.Int("rounds", 5, "how many rounds")
	programFlag = flag.String("program", "holdfast", "what the members run: holdfast or etcd")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := removeDisks(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// chosen is the program that the flag names.
func chosen(t testing.TB) program {
	t.Helper()
	switch *programFlag {
	case "etcd":
		return etcdProgram(t)
	case "holdfast":
		return holdfastProgram(t)
	}
	t.Fatalf("-program: there is no %q", *programFlag)
	return program{}
}

func etcdProgram(t testing.TB) program {
	return program{name: "etcd", binary: etcd.Binary(t, "etcd")}
}

var holdfastOnce sync.Once

// holdfastProgram is built once per run of the tests, so that it is that of the sources.
func holdfastProgram(t testing.TB) program {
	t.Helper()
	root, err := etcd.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "bin", "holdfast")
	holdfastOnce.Do(func() {
		cmd := exec.Command("go", "build", "-o", path, "./cmd/holdfast")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", path, err, out)
		}
	})
	return program{name: "holdfast", binary: path}
}

package utl

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

var (
	harmFlag     = flag.Int("harm", 1, "how often each kind of file is harmed in each way")
	harmSeedFlag = flag.Uint64("harm.seed", 0, "the seed of what is harmed; 0 draws one")
)

// harm is a way to spoil a file, at a place that is drawn.
type harm struct {
	name string
	do   func(t *testing.T, path string, size int64, rnd *rand.Rand) string
}

var harms = []harm{
	{"flip", func(t *testing.T, path string, size int64, rnd *rand.Rand) string {
		at, bit := rnd.Int64N(size), rnd.IntN(8)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << bit
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("bit %d of byte %d of %d flipped", bit, at, size)
	}},
	{"cut", func(t *testing.T, path string, size int64, rnd *rand.Rand) string {
		at := rnd.Int64N(size)
		if err := os.Truncate(path, at); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("cut to %d of %d bytes", at, size)
	}},
}

// patient is a kind of file in a directory, and what is then asked of it.
type patient struct {
	name, of, pattern string
	ask               [][]string // one after the other; DIR stands for the directory, NEW for one beside it. What the last one says is compared.
	// blind tells in which way the kind can be harmed so that nobody can notice, for it has no checksum there: only how a command ends counts.
	blind string
}

var (
	askHash   = [][]string{{"hashkv", "DIR"}}
	askImport = [][]string{{"import", "DIR", "--data-dir", "NEW"}, {"hashkv", "NEW"}}
	askExport = [][]string{{"export", "DIR", "--data-dir", "NEW"}, {"import", "NEW", "--data-dir", "NEW2"}, {"hashkv", "NEW2"}}
)

var patients = []patient{
	{"a snapshot", "saved", "saved.db", [][]string{{"snapshot", "restore", "DIR/saved.db", "--data-dir", "NEW"}, {"hashkv", "NEW"}}, ""},
	{"a snapshot's status", "saved", "saved.db", [][]string{{"snapshot", "status", "DIR/saved.db"}}, "flip cut"},
	{"an etcd's database", "etcd", "member/snap/db", askImport, "flip cut"},
	{"an etcd's raft log", "etcd", "member/wal/*.wal", askImport, "cut"},
	{"an etcd's snap file", "restored", "member/snap/*.snap", askImport, ""},
	{"our raft log", "logged", "member/wal/*.wal", askHash, "cut"},
	{"a table of our store", "stored", "member/store/*.sst", askHash, ""},
	{"a table of our store, exported", "stored", "member/store/*.sst", askExport, ""},
	{"the manifest of our store", "stored", "member/store/MANIFEST-*", askHash, ""},
	{"a marker of our store", "stored", "member/store/marker.*", askHash, ""},
	{"the options of our store", "stored", "member/store/OPTIONS-*", askHash, ""},
	{"our format", "stored", "member/FORMAT", askHash, ""},
}

// TestHarmedFiles flips and cuts files of each kind at random. A command ends with one sentence and 1, or says what it says of the
// whole file; it never panics, and never shows something else.
func TestHarmedFiles(t *testing.T) {
	seed := *harmSeedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("again: go test ./test/utl -run TestHarmedFiles -harm=%d -harm.seed=%d", *harmFlag, seed)
	rnd, utl, root := rand.New(rand.NewPCG(seed, 1)), ours(t, "etcdutl"), t.TempDir()
	harmless(t, utl, root)
	noticed := map[string]int{}
	for _, p := range patients {
		var whole string
		for i := range 1 + *harmFlag*len(harms) {
			dir := filepath.Join(t.TempDir(), "d")
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, p.of))); err != nil {
				t.Fatal(err)
			}
			h, done := harms[i%len(harms)], "nothing"
			if i > 0 {
				done = p.harm(t, dir, h, rnd)
			}
			a := p.answer(t, utl, dir)
			good := a.code == 0
			switch {
			case i == 0:
				whole = a.out
				if !good {
					t.Fatalf("%s: %+v", p.name, a)
				}
			case good && a.out != whole && !strings.Contains(p.blind, h.name):
				t.Errorf("%s, %s: it says %q; of the whole one it was %q", p.name, done, a.out, whole)
			case !good && (a.code != 1 || a.out != "" || complaint(a.err) == "" || strings.Contains(a.err, "goroutine ")):
				t.Errorf("%s, %s: %+v", p.name, done, a)
			case !good:
				noticed[p.name]++
			}
		}
	}
	t.Logf("noticed: %v", noticed)
	if noticed["a snapshot"] != *harmFlag*len(harms) { // its digest leaves nothing out
		t.Errorf("a snapshot: what was harmed was noticed %d times", noticed["a snapshot"])
	}
}

// harm spoils one file of the kind.
func (p patient) harm(t *testing.T, dir string, h harm, rnd *rand.Rand) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, p.pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: no file (%v)", p.name, err)
	}
	path := paths[rnd.IntN(len(paths))]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(bytes.TrimRight(content, "\x00"))) // a raft log is allocated ahead
	if size == 0 {
		return "nothing: the file is empty"
	}
	return path[len(dir):] + ": " + h.do(t, path, size, rnd)
}

// answer runs the commands up to the first that fails.
func (p patient) answer(t *testing.T, utl, dir string) (a answer) {
	t.Helper()
	for _, args := range p.ask {
		line := strings.NewReplacer("DIR", dir, "NEW", dir+".new").Replace(strings.Join(args, "\x00"))
		if a = call(t, filepath.Dir(dir), utl, strings.Split(line, "\x00")...); a.code != 0 {
			return a
		}
	}
	return a
}

// harmless makes what is harmed later: a snapshot, an etcd's directory as it runs and as it is restored, and our own, once with everything in
// the log and once with everything in the store.
func harmless(t *testing.T, utl, root string) {
	t.Helper()
	move := func(name string, s *run.Server) {
		t.Helper()
		s.Kill()
		if err := os.Rename(s.Data, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	a := place(t, etcd.Binary(t, "etcd"))
	launch(t, a).history("k")
	if err := os.Mkdir(filepath.Join(root, "saved"), 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, root, etcd.Binary(t, "etcdctl"), "--endpoints", a.Client, "snapshot", "save", "saved/saved.db")
	move("etcd", a)
	b := place(t, run.Holdfast(t))
	launch(t, b).history("k")
	move("logged", b)
	must(t, root, utl, "snapshot", "restore", "saved/saved.db", "--data-dir", "restored")
	must(t, root, utl, "import", "restored", "--data-dir", "stored")
}

package utl

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// answer is all that a call of a tool shows.
type answer struct {
	out, err string
	code     int
}

// call runs a tool in a folder.
func call(t *testing.T, dir, program string, args ...string) answer {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return answer{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a tool that has to succeed, and returns its standard output.
func must(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	a := call(t, dir, program, args...)
	if a.code != 0 {
		t.Fatalf("%s %s: exit %d\n%s%s", filepath.Base(program), strings.Join(args, " "), a.code, a.out, a.err)
	}
	return a.out
}

// ours is our binary under a tool's name.
func ours(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(run.Holdfast(t), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// golden puts a database that a real etcd wrote into dir as name.
func golden(t *testing.T, file, dir, name string) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "etcdfile", "testdata", file+".db.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name), content)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// examples are in the help texts of ours alone.
var examples = regexp.MustCompile(`(?m)^Examples:\n(  .*\n)+\n`)

// TestOutputIsEtcds runs a table of calls with etcd's tool and with ours, each in a folder of its own with the same files: what
// they print, on both outputs, and how they exit must be equal.
func TestOutputIsEtcds(t *testing.T) {
	theirs, mine := etcd.Binary(t, "etcdutl"), ours(t, "etcdutl")
	var calls []string
	for _, format := range []string{"simple", "table", "fields", "json", "protobuf", "yaml"} {
		for _, file := range []string{"golden.db", "bumped.db", "members.db", "example.db", "nothing.db"} {
			calls = append(calls, "snapshot status "+file+" -w "+format, "hashkv "+file+" --write-out="+format)
		}
	}
	calls = append(calls,
		"version", "snap stat golden.db", "hash golden.db", "--timeout 1s hashkv golden.db",
		"hashkv golden.db --rev 410", "hashkv golden.db --rev 430", "hashkv golden.db --rev 452",
		"hashkv golden.db --rev 409", "hashkv golden.db --rev 453", "hashkv", "hashkv golden.db bumped.db",
		"snapshot status", "snapshot status a b", "nonsense", "completion", "completion csh",
	)
	for _, line := range calls {
		answers := make([]answer, 2)
		for i, program := range []string{theirs, mine} {
			dir := t.TempDir()
			for _, file := range []string{"golden", "bumped", "members", "example"} {
				golden(t, file, dir, file+".db")
			}
			answers[i] = call(t, dir, program, strings.Fields(line)...)
			answers[i].err = examples.ReplaceAllString(answers[i].err, "")
		}
		if answers[0] != answers[1] {
			t.Errorf("etcdutl %s\netcd's: %+v\nours:   %+v", line, answers[0], answers[1])
		}
	}
}

// TestBadFilesGetOneSentence: whatever is wrong with a file, each command says so in one line and exits with 1. etcd's tool
// panics over most of these.
func TestBadFilesGetOneSentence(t *testing.T) {
	mine, dir := ours(t, "etcdutl"), t.TempDir()
	golden(t, "golden", dir, "whole.db")
	whole, err := os.ReadFile(filepath.Join(dir, "whole.db"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	for i := 4 * 4096; i < len(damaged); i++ { // the headers stay
		damaged[i] = 0xff
	}
	for name, content := range map[string][]byte{
		"empty": nil, "short": whole[:20_000], "header": whole[:100], "damaged": damaged,
		"text": []byte(strings.Repeat("not a database\n", 1000)), "zeroes": make([]byte, 1<<16),
	} {
		write(t, filepath.Join(dir, name), content)
		for _, args := range [][]string{{"snapshot", "status", name}, {"hashkv", name}} {
			a := call(t, dir, mine, args...)
			if a.code != 1 || a.out != "" || !strings.HasPrefix(a.err, "Error: ") || strings.Count(a.err, "\n") != 1 || !strings.Contains(a.err, name) {
				t.Errorf("etcdutl %s: %+v", strings.Join(args, " "), a)
			}
			after, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(after, content) {
				t.Errorf("etcdutl %s has changed the file it read (%v)", strings.Join(args, " "), err)
			}
		}
	}
}

// TestBadDirectoriesGetOneSentence: so do directories of which a part is missing, damaged or somebody else's.
func TestBadDirectoriesGetOneSentence(t *testing.T) {
	mine := ours(t, "etcdutl")
	root := t.TempDir()
	golden(t, "golden", root, "golden.db")
	must(t, root, mine, "snapshot", "restore", "golden.db", "--data-dir", "etcd")
	must(t, root, mine, "import", "etcd", "--data-dir", "holdfast")
	for _, c := range []struct {
		name, of string
		spoil    func(dir string) error
		args     []string // DIR stands for the directory
	}{
		{"an empty directory", "", nil, []string{"hashkv", "DIR"}},
		{"an empty directory", "", nil, []string{"snapshot", "status", "DIR"}},
		{"an empty directory", "", nil, []string{"import", "DIR", "--data-dir", "new"}},
		{"an empty directory", "", nil, []string{"export", "DIR", "--data-dir", "new"}},
		{"an etcd's directory to export", "etcd", nil, []string{"export", "DIR", "--data-dir", "new"}},
		{"our directory to import", "holdfast", nil, []string{"import", "DIR", "--data-dir", "new"}},
		{"our directory to migrate", "holdfast", nil, []string{"migrate", "--data-dir", "DIR", "--target-version", "3.6"}},
		{"an etcd without its log", "etcd", func(d string) error { return os.RemoveAll(filepath.Join(d, "member", "wal")) }, []string{"import", "DIR", "--data-dir", "new"}},
		{"an etcd with a damaged log", "etcd", damageLog, []string{"import", "DIR", "--data-dir", "new"}},
		{"an etcd with a damaged log", "etcd", damageLog, []string{"import", "--in-place", "DIR"}},
		{"an etcd with a damaged database", "etcd", func(d string) error {
			return os.WriteFile(filepath.Join(d, "member", "snap", "db"), make([]byte, 1<<16), 0o600)
		}, []string{"import", "--in-place", "DIR"}},
		{"an etcd with an empty database", "etcd", func(d string) error { return os.Truncate(filepath.Join(d, "member", "snap", "db"), 0) }, []string{"defrag", "--data-dir", "DIR"}},
		{"ours with a damaged log", "holdfast", damageLog, []string{"hashkv", "DIR"}},
		{"ours without its log", "holdfast", func(d string) error { return os.RemoveAll(filepath.Join(d, "member", "wal")) }, []string{"export", "DIR", "--data-dir", "new"}},
		{"ours in a format to come", "holdfast", func(d string) error {
			return os.WriteFile(filepath.Join(d, "member", "FORMAT"), []byte("9\n"), 0o600)
		}, []string{"hashkv", "DIR"}},
		{"ours with a damaged store", "holdfast", damageStore, []string{"snapshot", "status", "DIR"}},
		{"ours with a damaged store", "holdfast", damageStore, []string{"export", "DIR", "--data-dir", "new"}},
		{"ours without a manifest", "holdfast", func(d string) error { return removeAll(d, "MANIFEST-*") }, []string{"hashkv", "DIR"}},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if c.of != "" {
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, c.of))); err != nil {
				t.Fatal(err)
			}
		}
		if c.spoil != nil {
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
		}
		args := strings.Split(strings.ReplaceAll(strings.Join(c.args, "\x00"), "DIR", dir), "\x00")
		a := call(t, filepath.Dir(dir), mine, args...)
		if a.code != 1 || a.out != "" || !strings.HasPrefix(a.err, "Error: ") || strings.Count(a.err, "\n") != 1 || !strings.Contains(a.err, dir) {
			t.Errorf("%s: %s: %+v", c.name, strings.Join(c.args, " "), a)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "new", "member", "wal")); err == nil {
			t.Errorf("%s: %s left something", c.name, strings.Join(c.args, " "))
		}
	}
}

// damageLog flips bits in the middle of a record that others follow.
func damageLog(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(paths[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{0xde, 0xad, 0xbe, 0xef}, 80)
	return errors.Join(err, f.Close())
}

// damageStore overwrites the beginning of every table.
func damageStore(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "member", "store", "*.sst"))
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("%d tables: %w", len(paths), err)
	}
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 1<<10), 0)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func removeAll(dir, pattern string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "member", "store", pattern))
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

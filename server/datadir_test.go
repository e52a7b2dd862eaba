package server

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// writeFile makes a file and the directories it lies in.
func writeFile(t *testing.T, disk vfs.FS, name, text string) {
	t.Helper()
	if err := disk.MkdirAll(disk.PathDir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDataDir is the table of directories that a member is given: its own, a new one, and those of others, which it must
// not touch and must say what to do about.
func TestDataDir(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string // of the error; empty for none
	}{
		{"nothing", nil, ""},
		{"an empty member directory", map[string]string{"d/member/other": ""}, ""},
		{"our own", map[string]string{"d/member/FORMAT": "1\n", "d/member/store/x": "", "d/member/wal/0.wal": ""}, ""},
		{"our own, with a crash before the store", map[string]string{"d/member/FORMAT": "1\n"}, ""},
		{"a format half written", map[string]string{"d/member/FORMAT.tmp": "1"}, ""},
		{"a newer format", map[string]string{"d/member/FORMAT": "2\n"}, `has format "2", this version of Holdfast reads "1"`},
		{"an empty format", map[string]string{"d/member/FORMAT": ""}, `has format ""`},
		{"a store without a format", map[string]string{"d/member/store/x": ""}, "no member/FORMAT"},
		{"a raft log without a format", map[string]string{"d/member/wal/0.wal": ""}, "no member/FORMAT"},
		{"etcd's", map[string]string{"d/member/snap/db": "", "d/member/wal/0.wal": ""}, "belongs to etcd"},
		{"etcd's and ours", map[string]string{"d/member/snap/db": "", "d/member/FORMAT": "1\n", "d/member/store/x": ""}, "both an etcd database and a Holdfast store"},
		{"an etcd proxy's", map[string]string{"d/proxy/cluster": ""}, "etcd proxy"},
	} {
		fs := vfs.NewMem()
		for name, text := range c.files {
			writeFile(t, fs, name, text)
		}
		d, err := openDataDir(fs, "d", "")
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case c.want != "" && !strings.Contains(err.Error(), " d "):
			t.Errorf("%s: the error does not name the directory: %v", c.name, err)
		}
		if err != nil {
			for name := range c.files {
				if _, err := fs.Stat(name); err != nil {
					t.Errorf("%s: a refused directory was changed: %v", c.name, err)
				}
			}
			continue
		}
		if err := d.lock.Close(); err != nil {
			t.Error(err)
		}
		if again, err := openDataDir(fs, "d", ""); err != nil {
			t.Errorf("%s: the second time: %v", c.name, err)
		} else if err := again.lock.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDataDirIsLocked: a second member on the same directory is refused, and let in when the first has gone.
func TestDataDirIsLocked(t *testing.T) {
	for name, disk := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		root := disk.PathJoin(t.TempDir(), "d")
		d, err := openDataDir(disk, root, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openDataDir(disk, root, ""); err == nil || !strings.Contains(err.Error(), "is in use by another process") {
			t.Errorf("%s: a second member: %v", name, err)
		}
		if err := d.lock.Close(); err != nil {
			t.Fatal(err)
		}
		if d, err = openDataDir(disk, root, ""); err != nil {
			t.Fatalf("%s: after the first has gone: %v", name, err)
		}
		if err := d.lock.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDataDirLeavesNothingOfEarlierRuns: files in member/tmp go at start, and the raft log lies where it is told to.
func TestDataDirLeavesNothingOfEarlierRuns(t *testing.T) {
	fs := vfs.NewMem()
	writeFile(t, fs, "d/member/FORMAT", "1\n")
	writeFile(t, fs, "d/member/tmp/old.db", "x")
	d, err := openDataDir(fs, "d", "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	defer d.lock.Close()
	if names, err := fs.List("d/member/tmp"); err != nil || len(names) != 0 {
		t.Errorf("member/tmp holds %v, %v", names, err)
	}
	if d.wal != "elsewhere" {
		t.Errorf("the raft log lies in %s", d.wal)
	}
}

// TestDataDirSurvivesCrashes crashes after each operation on the disk while a directory is made: it can be opened
// afterwards, as a new one or as ours.
func TestDataDirSurvivesCrashes(t *testing.T) {
	disk := newCrashingFS(1)
	d, err := openDataDir(disk, "a/b/d", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.lock.Close(); err != nil {
		t.Fatal(err)
	}
	disk.crash()
	for i, fs := range disk.crashes {
		if err := fs.MkdirAll("a/b", 0o755); err != nil {
			t.Fatal(err)
		}
		d, err := openDataDir(fs, "a/b/d", "")
		if err != nil {
			t.Errorf("after crash %d: %v", i, err)
			continue
		}
		if err := d.lock.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(disk.crashes) < 10 {
		t.Errorf("%d crashes only", len(disk.crashes))
	}
}

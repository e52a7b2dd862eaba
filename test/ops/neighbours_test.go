package ops

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestB8TwoOnOneMachine: two members work side by side with ports and directories of their own; a third is refused the directory
// of one of them, and that of an etcd, in a sentence, and leaves both as they are.
func TestB8TwoOnOneMachine(t *testing.T) {
	first, second := one(t, t.TempDir()), one(t, t.TempDir())
	a, b := dial(t, first.Client), dial(t, second.Client)
	if err := a.put("whose", []byte("the first's")); err != nil {
		t.Fatal(err)
	}
	if err := b.put("whose", []byte("the second's")); err != nil {
		t.Fatal(err)
	}
	refused(t, first.Data, "is in use by another process")
	if err := a.put("still", nil); err != nil {
		t.Errorf("the member whose directory was asked for: %v", err)
	}

	foreign, err := run.Start(t.Context(), run.Config{Binary: etcd.Binary(t, "etcd"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Stop(); err != nil {
		t.Fatal(err)
	}
	before := listing(t, foreign.Data)
	refused(t, foreign.Data, "belongs to etcd")
	if after := listing(t, foreign.Data); after != before {
		t.Errorf("the directory of the etcd was\n%s\nand is\n%s", before, after)
	}
	if err := foreign.Restart(t.Context()); err != nil {
		t.Errorf("the etcd: %v", err)
	}
	foreign.Kill()
}

// refused starts a member on a directory that it must not take.
func refused(t *testing.T, data, want string) {
	t.Helper()
	server, err := run.Place(run.Config{Binary: run.Holdfast(t), Dir: t.TempDir(), Args: []string{"--data-dir=" + data}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Launch(); err != nil {
		t.Fatal(err)
	}
	<-server.Ended()
	words := server.LogTail(3)
	if !strings.Contains(words, want) || !strings.Contains(words, data) || !strings.Contains(words, "--data-dir") {
		t.Errorf("on %s it says\n%s\nwant %q, the directory and the flag", data, words, want)
	}
	server.Kill()
}

// listing is every file below a directory with size and time.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !e.IsDir() {
			b.WriteString(path + " " + info.ModTime().String() + " " + info.Mode().String() + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

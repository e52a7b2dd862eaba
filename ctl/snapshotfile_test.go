package ctl

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// whole is a snapshot as a member sends it: a database and its digest.
func whole(sectors int) []byte {
	db := []byte(strings.Repeat("x", sectors*sectorBytes))
	sum := sha256.Sum256(db)
	return append(db, sum[:]...)
}

// inPieces writes b in pieces of n bytes.
func inPieces(b []byte, n int) func(io.Writer) error {
	return func(w io.Writer) error {
		for len(b) > 0 {
			piece := b[:min(n, len(b))]
			if _, err := w.Write(piece); err != nil {
				return err
			}
			b = b[len(piece):]
		}
		return nil
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// A whole snapshot arrives byte for byte, whatever the pieces, and only its owner may read it.
func TestWriteSnapshot(t *testing.T) {
	for _, piece := range []int{1, 31, 32, 33, 512, 1 << 20} {
		dir := t.TempDir()
		path := filepath.Join(dir, "s.db")
		if err := os.WriteFile(path+".part", []byte("left behind"), 0o644); err != nil {
			t.Fatal(err)
		}
		want := whole(8)
		size, err := writeSnapshot(path, inPieces(want, piece))
		if err != nil || size != int64(len(want)) {
			t.Fatalf("pieces of %d: %d bytes, %v", piece, size, err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != string(want) {
			t.Errorf("pieces of %d: %d bytes read back, %v", piece, len(got), err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if all := names(t, dir); all != "s.db" {
			t.Errorf("left behind: %s", all)
		}
	}
}

// What is cut off, damaged or broken off never takes the place of an older snapshot, and leaves nothing behind.
func TestBadSnapshot(t *testing.T) {
	damaged := whole(8)
	damaged[100] ^= 1
	for what, test := range map[string]struct {
		fill func(io.Writer) error
		want string
	}{
		"cut off":    {inPieces(whole(8)[:4096], 1000), "sha256 checksum not found [bytes: 4096]"},
		"empty":      {inPieces(nil, 1), "sha256 checksum not found [bytes: 0]"},
		"damaged":    {inPieces(damaged, 1000), "what arrived does not match its sha256 checksum"},
		"broken off": {func(io.Writer) error { return errors.New("lost") }, "lost"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "s.db")
		if err := os.WriteFile(path, []byte("older"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := writeSnapshot(path, test.fill)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", what, err, test.want)
		}
		if got, _ := os.ReadFile(path); string(got) != "older" || names(t, dir) != "s.db" {
			t.Errorf("%s: left %q with %q", what, names(t, dir), got)
		}
	}
}

func TestSnapshotNowhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "s.db")
	_, err := writeSnapshot(path, inPieces(whole(1), 10))
	if want := "could not open " + path + ".part (open " + path + ".part: no such file or directory)"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

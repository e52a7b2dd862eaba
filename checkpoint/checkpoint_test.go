package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/util/durable"
)

// directory makes one with files of all kinds of sizes.
func directory(t testing.TB, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	files := map[string][]byte{}
	for i, size := range []int{0, 1, 5, copyBytes - 1, copyBytes, copyBytes + 1, 3*copyBytes + 17} {
		content := make([]byte, size)
		for j := range content {
			content[j] = byte(rng.Uint32())
		}
		files[fmt.Sprintf("%06d.sst", i)] = content
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		f, err := fs.Create(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Clone(content)); err != nil { // with the race detector Write spoils what it was given
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func stream(t testing.TB, fs vfs.FS, dir string) []byte {
	t.Helper()
	r, err := NewReader(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(iotest.OneByteReader(io.LimitReader(r, 100)))
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, rest...)
	if int64(len(b)) != r.Size() {
		t.Fatalf("%d bytes came, %d were announced", len(b), r.Size())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRoundTrip: what is received is what was there, and a crash right after does not touch it.
func TestRoundTrip(t *testing.T) {
	fs := vfs.NewCrashableMem()
	want := directory(t, fs, "from")
	b := stream(t, fs, "from")
	if err := Receive(fs, "to", iotest.HalfReader(bytes.NewReader(b))); err != nil {
		t.Fatal(err)
	}
	if err := durable.Names(fs, ""); err != nil {
		t.Fatal(err)
	}
	after := fs.CrashClone(vfs.CrashCloneCfg{})
	names, err := after.List("to")
	if err != nil || len(names) != len(want) {
		t.Fatalf("%d files (%v), want %d", len(names), err, len(want))
	}
	for name, content := range want {
		f, err := after.Open("to/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s came as %d other bytes (%v)", name, len(got), err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamage changes, cuts and lengthens a stream everywhere that matters. It is never taken.
func TestDamage(t *testing.T) {
	fs := vfs.NewMem()
	directory(t, fs, "from")
	b := stream(t, fs, "from")
	rng := rand.New(rand.NewPCG(3, 4))
	n := 0
	refused := func(what string, b []byte, at int) {
		n++
		to := fmt.Sprint("to", n)
		if err := Receive(fs, to, bytes.NewReader(b)); err == nil {
			t.Errorf("%s at %d of %d: taken", what, at, len(b))
		} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s at %d: %v", what, at, err)
		}
		if err := fs.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 80 {
		at := rng.IntN(len(b))
		if i < 60 {
			at = i // the head, and names and sizes of small files
		}
		flipped := bytes.Clone(b)
		flipped[at] ^= 1 << rng.IntN(8)
		refused("a flipped bit", flipped, at)
		refused("a cut", b[:at], at)
	}
	for at := len(b) - 12; at < len(b); at++ {
		refused("a cut", b[:at], at)
	}
	refused("a byte behind the end", append(bytes.Clone(b), 0), len(b))
}

// TestNames: no name leads out of the directory.
func TestNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", `a\b`, ".hidden", "a\x00", "ä", string(bytes.Repeat([]byte("a"), 256))} {
		if checkName(name) == nil {
			t.Errorf("%q is let through", name)
		}
	}
	for _, name := range []string{"MANIFEST-000001", "OPTIONS-000003", "000004.sst", "marker.format-version.000007.024"} {
		if err := checkName(name); err != nil {
			t.Error(err)
		}
	}
}

// FuzzReceive: whatever comes, nothing but a directory of files comes of it, and what is taken reads the same again.
func FuzzReceive(f *testing.F) {
	fs := vfs.NewMem()
	directory(f, fs, "from")
	f.Add(stream(f, fs, "from"))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		if Receive(fs, "to", bytes.NewReader(b)) != nil {
			return
		}
		if again := stream(t, fs, "to"); !bytes.Equal(again, b) {
			t.Errorf("%d bytes were taken and read as %d others", len(b), len(again))
		}
	})
}

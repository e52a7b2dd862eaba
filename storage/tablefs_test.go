package storage

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestTableFile: what was written stands in the file once it is synced, looked at or closed, whatever the sizes, and syncing a part of it meanwhile; and a file that is
// no table is written at once.
func TestTableFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	mem := vfs.NewMem()
	fs := tableFS{FS: mem}
	held := func(name string) []byte {
		t.Helper()
		f, err := mem.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f, err := fs.Create("1.sst", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for range 300 {
		p := make([]byte, rng.IntN(10)*rng.IntN(10_000)+rng.IntN(50)/49*rng.IntN(3*tableBuffer))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		if n, err := f.Write(bytes.Clone(p)); n != len(p) || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, len(p), err)
		}
		want = append(want, p...)
		switch rng.IntN(20) {
		case 0:
			err = f.Sync()
		case 1:
			err = f.SyncData()
		case 2:
			if _, err := f.SyncTo(int64(len(want))); err != nil {
				t.Fatal(err)
			}
			continue
		case 3:
			_, err = f.Stat()
		default:
			continue
		}
		if err != nil || !bytes.Equal(held("1.sst"), want) {
			t.Fatalf("%d bytes are not what is held: %v", len(want), err)
		}
	}
	if err := f.Close(); err != nil || !bytes.Equal(held("1.sst"), want) {
		t.Fatalf("after closing, %d bytes are not what is held: %v", len(want), err)
	}
	log, err := fs.Create("MANIFEST-1", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Write([]byte("now")); err != nil || string(held("MANIFEST-1")) != "now" {
		t.Fatalf("what is no table was not written at once: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTableFileFails: a write that fails is told at the latest when the file is synced or closed, and from then on.
func TestTableFileFails(t *testing.T) {
	full := errors.New("no space")
	failing := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite {
			return full
		}
		return nil
	})
	for name, ask := range map[string]func(vfs.File) error{
		"sync":      vfs.File.Sync,
		"sync data": vfs.File.SyncData,
		"stat":      func(f vfs.File) error { _, err := f.Stat(); return err },
		"close":     vfs.File.Close,
		"write":     func(f vfs.File) error { _, err := f.Write(make([]byte, 3*tableBuffer)); return err },
	} {
		f, err := tableFS{FS: errorfs.Wrap(vfs.NewMem(), failing)}.Create("1.sst", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("collected")); err != nil {
			t.Fatal(err)
		}
		if err := ask(f); !errors.Is(err, full) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "close" {
			continue
		}
		if _, err := f.Write([]byte("more")); err == nil {
			err = f.Sync()
			if !errors.Is(err, full) {
				t.Errorf("%s: after it: %v", name, err)
			}
		}
		if err := f.Close(); !errors.Is(err, full) {
			t.Errorf("%s: closing: %v", name, err)
		}
	}
}

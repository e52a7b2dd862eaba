package etcdfile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSnapshot streams a database and receives it as a client does.
func TestSnapshot(t *testing.T) {
	want := randomModel(seeded(t), 3000)
	_, disk := openMem(t, want)
	r, err := OpenSnapshot(disk, "db")
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, r)
	received, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(received)) != r.Size() || len(received)%digestUnit != sha256.Size {
		t.Errorf("%d bytes, %d were announced", len(received), r.Size())
	}
	writeFileMem(t, disk, "received", received)
	d, err := Open(disk, "received")
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, d)
	if err := errors.Join(d.CheckDigest(), d.Check()); err != nil {
		t.Error(err)
	}
}

// TestSnapshotReader holds the reader to io.Reader's rules and to chunks that do not mix database and digest.
func TestSnapshotReader(t *testing.T) {
	_, disk := openMem(t, randomModel(seeded(t), 300))
	r, err := OpenSnapshot(disk, "db")
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	chunk := make([]byte, 32<<10)
	for int64(body.Len()) < r.Size()-sha256.Size {
		n, err := r.Read(chunk)
		if err != nil {
			t.Fatal(err)
		}
		body.Write(chunk[:n])
	}
	if int64(body.Len()) != r.Size()-sha256.Size {
		t.Fatalf("a chunk mixes database and digest")
	}
	digest, err := io.ReadAll(r)
	if sum := sha256.Sum256(body.Bytes()); err != nil || !bytes.Equal(digest, sum[:]) {
		t.Errorf("digest %x %v, want %x", digest, err, sum)
	}
	closeOrFail(t, r)

	if r, err = OpenSnapshot(disk, "db"); err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, r)
	if err := iotest.TestReader(r, append(body.Bytes(), digest...)); err != nil {
		t.Error(err)
	}
}

// TestSnapshotRefuses shows what cannot be sent, and that a read error is not taken for the end.
func TestSnapshotRefuses(t *testing.T) {
	disk := vfs.NewMem()
	writeFileMem(t, disk, "odd", make([]byte, 513))
	if _, err := OpenSnapshot(disk, "odd"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("odd size: %v", err)
	}
	if _, err := OpenSnapshot(disk, "missing"); err == nil {
		t.Error("a missing file opened")
	}
	writeFileMem(t, disk, "db", make([]byte, 1024))
	r, err := OpenSnapshot(&failingFS{FS: disk}, "db")
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, r)
	if _, err := io.ReadAll(r); !errors.Is(err, errBoom) {
		t.Errorf("read error: %v", err)
	}
}

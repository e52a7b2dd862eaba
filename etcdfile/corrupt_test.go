package etcdfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	bolt "go.etcd.io/bbolt"

	"holdfast/kv"
)

// readAll opens content as a database and reads all of it, every way there is.
func readAll(t testing.TB, content []byte) error {
	disk := vfs.NewMem()
	writeFileMem(t, disk, "db", content)
	d, err := Open(disk, "db")
	if err != nil {
		return err
	}
	defer closeOrFail(t, d)
	if err := d.Check(); err != nil {
		return err
	}
	if _, err := d.Status(); err != nil {
		return err
	}
	_, err = HashKV(d, 0)
	return err
}

// damaged tells whether err is one of the answers a damaged or foreign file may get, in one line.
func damaged(err error) bool {
	known := errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotDatabase) || errors.Is(err, ErrForeign) ||
		errors.Is(err, ErrUnsupportedSchema)
	return known && !strings.Contains(err.Error(), "\n")
}

// TestTruncated cuts a snapshot everywhere: all that is missing must be noticed.
func TestTruncated(t *testing.T) {
	full := goldenBytes(t, "golden")
	cuts := []int{0, 1, 31, 32, 79, 80, 511, 512, 1023, 1024, 2047, 2048, 4095, 4096, 4176, 8191, 8192, 12288, 20480}
	for at := 0; at < len(full)-32; at += 997 {
		cuts = append(cuts, at, at/512*512+32)
	}
	for _, at := range cuts {
		if err := readAll(t, full[:at]); !damaged(err) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	if err := readAll(t, full[:len(full)-32]); err != nil {
		t.Errorf("without digest: %v", err)
	}
}

// TestTruncatedInUse cuts a file that was larger than its pages in use, as etcd's own is.
func TestTruncatedInUse(t *testing.T) {
	full := goldenBytes(t, "bumped")
	d, _ := golden(t, "bumped")
	status, err := d.Status()
	if err != nil {
		t.Fatal(err)
	}
	if err := readAll(t, full[:status.Size]); err != nil {
		t.Errorf("without its unused end: %v", err)
	}
	if err := readAll(t, full[:status.Size-1]); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("one byte less: %v", err)
	}
}

// TestBitFlips flips bits everywhere, densely where the structure is. The digest must always notice; reading must end
// in an error or a result, never in a panic or a circle.
func TestBitFlips(t *testing.T) {
	r := seeded(t)
	full := goldenBytes(t, "golden")
	flips := 0
	for at := 0; at < len(full)-32; at++ {
		structure := at%4096 < 64 // page headers and first elements
		if !structure && r.IntN(400) > 0 {
			continue
		}
		content := bytes.Clone(full)
		content[at] ^= 1 << r.IntN(8)
		if err := readAll(t, content); err != nil && !damaged(err) {
			t.Errorf("flip at %d: %v", at, err)
		}
		flips++
	}
	t.Logf("%d flips", flips)

	for range 20 {
		content := bytes.Clone(full)
		content[r.IntN(len(full))] ^= 1 << r.IntN(8)
		disk := vfs.NewMem()
		writeFileMem(t, disk, "db", content)
		d, err := Open(disk, "db")
		if err != nil {
			continue
		}
		if err := d.CheckDigest(); !errors.Is(err, ErrDigest) {
			t.Errorf("digest of a damaged file: %v", err)
		}
		closeOrFail(t, d)
	}
}

// TestDamageIsNamed damages one thing at a time and looks whether the sentence says where and what.
func TestDamageIsNamed(t *testing.T) {
	g, _ := golden(t, "golden")
	_, disk := openMem(t, g) // written anew, there are no free pages with leftovers
	full := fileBytes(t, disk, "db")
	le := binary.LittleEndian
	root := findPage(full, kindBranch)
	leaf := le.Uint64(full[root*4096+pageHeaderSize+8:])
	firstKey := int(leaf)*4096 + pageHeaderSize + int(le.Uint32(full[leaf*4096+pageHeaderSize+4:]))
	for _, c := range []struct {
		name   string
		damage func(b []byte)
		want   error
		text   string
	}{
		{"both headers", func(b []byte) { b[20]++; b[4096+20]++ }, ErrNotDatabase, "bbolt format 3"},
		{"magic", func(b []byte) { b[16]++; b[4096+16]++ }, ErrNotDatabase, "magic"},
		{"checksum", func(b []byte) { b[50]++; b[4096+50]++ }, ErrNotDatabase, "checksum"},
		{"page number", func(b []byte) { b[leaf*4096]++ }, ErrCorrupt, fmt.Sprintf("bucket key: database is corrupt: page %d says it is", leaf)},
		{"page kind", func(b []byte) { b[leaf*4096+8] = 7 }, ErrCorrupt, "of kind 0x7"},
		{"circle", func(b []byte) { le.PutUint64(b[root*4096+pageHeaderSize+8:], root) }, ErrCorrupt, "circle"},
		{"page twice", func(b []byte) { le.PutUint64(b[root*4096+pageHeaderSize+elementSize+8:], leaf) }, ErrCorrupt, "does not ascend"},
		{"child outside", func(b []byte) { le.PutUint64(b[root*4096+pageHeaderSize+8:], 1<<40) }, ErrCorrupt, "reference to page 1099511627776"},
		{"overflow", func(b []byte) { le.PutUint32(b[leaf*4096+12:], 1<<31) }, ErrCorrupt, "runs on"},
		{"count", func(b []byte) { le.PutUint16(b[leaf*4096+10:], 60000) }, ErrCorrupt, "announces 60000 elements"},
		{"position", func(b []byte) { le.PutUint32(b[leaf*4096+pageHeaderSize+4:], 1<<31) }, ErrCorrupt, "element 0"},
		{"value length", func(b []byte) { le.PutUint32(b[leaf*4096+pageHeaderSize+12:], 1<<31) }, ErrCorrupt, "element 0"},
		{"separator", func(b []byte) { b[firstKey+separatorAt] = '-' }, ErrCorrupt, `separator '-', not '_'`},
		{"member", func(b []byte) { b[bytes.Index(b, []byte(`{"id":`))] = '[' }, ErrCorrupt, "bucket members, key"},
		{"version", func(b []byte) { copy(b[bytes.LastIndex(b, []byte("storageVersion3.7.0")):], "storageVersion3.9.0") }, ErrUnsupportedSchema, `"3.9.0"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			content := bytes.Clone(full)
			c.damage(content)
			if err := readAll(t, content); !errors.Is(err, c.want) || !damaged(err) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func fileBytes(t testing.TB, disk vfs.FS, path string) []byte {
	t.Helper()
	f, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, f)
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// findPage returns the first page of a kind that is in use, as the root of the rows is the only branch.
func findPage(b []byte, kind uint16) uint64 {
	for id := uint64(2); id < uint64(len(b)/4096); id++ {
		if p := page(b[id*4096 : (id+1)*4096]); p.id() == id && p.kind() == kind {
			return id
		}
	}
	panic("no such page")
}

// TestOneHeaderIsEnough damages the headers in turn: the other one serves, even if its page size must be guessed.
func TestOneHeaderIsEnough(t *testing.T) {
	_, disk := openMem(t, randomModel(seeded(t), 500))
	full := fileBytes(t, disk, "db")
	for _, at := range []int{0, 4096} {
		content := bytes.Clone(full)
		content[at+40]++
		if err := readAll(t, content); err != nil {
			t.Errorf("header at %d damaged: %v", at, err)
		}
	}
}

// TestForeign opens what others wrote.
func TestForeign(t *testing.T) {
	for name, fill := range map[string]func(*bolt.Tx) error{
		"empty":  func(*bolt.Tx) error { return nil },
		"bucket": func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("other")); return err },
		"only key": func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte(bucketKey))
			return err
		},
	} {
		path := filepath.Join(t.TempDir(), "db")
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(fill); err != nil {
			t.Fatal(err)
		}
		closeOrFail(t, db)
		if _, err := Open(vfs.Default, path); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := readAll(t, bytes.Repeat([]byte("no database at all. "), 1000)); !errors.Is(err, ErrNotDatabase) {
		t.Errorf("text: %v", err)
	}
	if _, err := Open(vfs.NewMem(), "db"); err == nil {
		t.Error("a missing file opened")
	}
}

// TestInUse keeps us away from a database that etcd has open, and etcd away from one that we read.
func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if _, err := Write(vfs.Default, path, randomModel(seeded(t), 10)); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(vfs.Default, path); !errors.Is(err, ErrInUse) {
		t.Errorf("while etcd has it: %v", err)
	}
	closeOrFail(t, db)
	d, err := Open(vfs.Default, path)
	if err != nil {
		t.Fatal(err)
	}
	if db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 1}); err == nil {
		t.Error("opened for writing while we read")
		closeOrFail(t, db)
	}
	closeOrFail(t, d)
}

// TestReadErrors fails every read of the disk in turn; each must come out as that error.
func TestReadErrors(t *testing.T) {
	_, disk := golden(t, "golden")
	for n := 0; ; n++ {
		failing := &failingFS{FS: disk, reads: n}
		err := func() error {
			d, err := Open(failing, "db")
			if err != nil {
				return err
			}
			defer closeOrFail(t, d)
			return d.Check()
		}()
		if err == nil {
			if n < 10 {
				t.Errorf("only %d reads", n)
			}
			return
		}
		if !errors.Is(err, errBoom) {
			t.Errorf("read %d fails: %v", n, err)
		}
	}
}

// failingFS fails the reads after the first few.
type failingFS struct {
	vfs.FS
	reads int
}

func (f *failingFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, opts...)
	return &failingFile{File: file, fs: f}, err
}

type failingFile struct {
	vfs.File
	fs *failingFS
}

func (f *failingFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.reads == 0 {
		return 0, errBoom
	}
	f.fs.reads--
	return f.File.ReadAt(p, off)
}

// FuzzOpen patches a real database in two places: whatever comes, reading ends without a panic and, if it succeeds,
// what was read can be written again, unless it breaks a rule that only Write knows.
func FuzzOpen(f *testing.F) {
	g, _ := golden(f, "golden")
	disk := vfs.NewMem()
	if _, err := Write(disk, "db", g); err != nil {
		f.Fatal(err)
	}
	full := fileBytes(f, disk, "db")
	f.Add(uint32(2*pageSize), uint64(0), uint32(10*pageSize+pageHeaderSize), uint64(1))
	f.Fuzz(func(t *testing.T, at uint32, patch uint64, at2 uint32, patch2 uint64) {
		content := bytes.Clone(full)
		binary.LittleEndian.PutUint64(content[int(at)%(len(content)-7):], patch)
		binary.LittleEndian.PutUint64(content[int(at2)%(len(content)-7):], patch2)
		if err := readAll(t, content); err != nil {
			if !damaged(err) {
				t.Error(err)
			}
			return
		}
		disk := vfs.NewMem()
		writeFileMem(t, disk, "db", content)
		d, err := Open(disk, "db")
		if err != nil {
			t.Fatal(err)
		}
		defer closeOrFail(t, d)
		if _, err := Write(disk, "again", d); err != nil && !errors.Is(err, ErrSource) {
			t.Error(err)
		}
	})
}

// FuzzRevision compares decoding and encoding of row keys.
func FuzzRevision(f *testing.F) {
	f.Add(appendRevision(nil, kv.Rev{Main: 3, Sub: 1}, false))
	f.Add(appendRevision(nil, kv.Rev{Main: 1 << 40}, true))
	f.Fuzz(func(t *testing.T, key []byte) {
		rev, tombstone, err := decodeRevision(key)
		if err == nil && !bytes.Equal(appendRevision(nil, rev, tombstone), key) {
			t.Errorf("%q is read as %v %v", key, rev, tombstone)
		}
	})
}

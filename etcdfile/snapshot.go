package etcdfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SnapshotReader reads a database file as clients and members receive it: its bytes, then their SHA-256.
type SnapshotReader struct {
	f      vfs.File
	path   string
	body   io.Reader // the database's bytes, summed as they pass
	left   int64     // bytes of the database not read yet
	size   int64
	sum    hash.Hash
	digest []byte // what is left of the digest, once the database is read
}

// OpenSnapshot opens a database that Write made. The file must not change while it is read.
func OpenSnapshot(disk vfs.FS, path string) (*SnapshotReader, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	r, err := newSnapshotReader(f, path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshot %s: %w", path, err), f.Close())
	}
	return r, nil
}

func newSnapshotReader(f vfs.File, path string) (*SnapshotReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size%digestUnit != 0 {
		// The receiver would take the digest for data, or data for the digest.
		return nil, fmt.Errorf("%w: %d bytes are not whole units of %d", ErrCorrupt, size, digestUnit)
	}
	sum := sha256.New()
	return &SnapshotReader{
		f: f, path: path, sum: sum, size: size, left: size,
		body: io.TeeReader(io.NewSectionReader(f, 0, size), sum),
	}, nil
}

// Size returns how many bytes Read yields in total, the digest included.
func (r *SnapshotReader) Size() int64 { return r.size + sha256.Size }

// Read yields the database, then the digest. Database and digest never come in one call: etcd sends the digest as a
// message of its own.
func (r *SnapshotReader) Read(p []byte) (int, error) {
	if r.left > 0 {
		return r.readBody(p)
	}
	if len(r.digest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.digest)
	r.digest = r.digest[n:]
	return n, nil
}

func (r *SnapshotReader) readBody(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = fmt.Errorf("%w: %d bytes are missing", io.ErrUnexpectedEOF, r.left)
	}
	if err != nil && err != io.EOF {
		return n, fmt.Errorf("read snapshot %s: %w", r.path, err)
	}
	if r.left == 0 {
		r.digest = r.sum.Sum(nil)
	}
	return n, nil
}

// Close releases the file.
func (r *SnapshotReader) Close() error { return r.f.Close() }

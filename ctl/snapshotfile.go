package ctl

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
)

// sectorBytes divides the length of every database, so that a digest behind it shows in the length.
const sectorBytes = 512

// errNoDigest says that a stream does not end in the digest that a whole snapshot ends in.
type errNoDigest int64

func (n errNoDigest) Error() string {
	return fmt.Sprintf("sha256 checksum not found [bytes: %d]", int64(n))
}

// writeSnapshot makes the file at path out of what fill writes: under another name until it is whole, verified against its
// digest and on disk, readable by its owner only. What it leaves behind after a failure is the file that was there before.
func writeSnapshot(path string, fill func(io.Writer) error) (size int64, err error) {
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("could not open %s (%w)", part, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	size, err = fillSnapshot(f, fill)
	if closed := f.Close(); err == nil && closed != nil {
		err = fmt.Errorf("could not close %s: %w", part, closed)
	}
	if err != nil {
		return size, err
	}
	if err := os.Rename(part, path); err != nil {
		return size, fmt.Errorf("could not rename %s to %s (%w)", part, path, err)
	}
	return size, syncNames(filepath.Dir(path))
}

func fillSnapshot(f *os.File, fill func(io.Writer) error) (int64, error) {
	if err := f.Chmod(0o600); err != nil { // one that was left behind may have been anybody's
		return 0, err
	}
	sum := digested{to: f, hash: sha256.New()}
	if err := fill(&sum); err != nil {
		return sum.size, err
	}
	if err := sum.verify(); err != nil {
		return sum.size, err
	}
	if err := f.Sync(); err != nil {
		return sum.size, fmt.Errorf("could not fsync snapshot: %w", err)
	}
	return sum.size, nil
}

// syncNames makes a rename in dir outlive a crash.
func syncNames(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// digested passes a snapshot on and compares its end with the digest of the rest.
type digested struct {
	to   io.Writer
	hash hash.Hash
	tail []byte // the last sha256.Size bytes or fewer: the digest, if nothing follows
	size int64
}

func (d *digested) Write(b []byte) (int, error) {
	n, err := d.to.Write(b)
	d.size += int64(n)
	d.tail = append(d.tail, b[:n]...)
	if over := len(d.tail) - sha256.Size; over > 0 {
		d.hash.Write(d.tail[:over])
		d.tail = append(d.tail[:0], d.tail[over:]...)
	}
	return n, err
}

func (d *digested) verify() error {
	if d.size%sectorBytes != sha256.Size {
		return errNoDigest(d.size)
	}
	if !bytes.Equal(d.hash.Sum(nil), d.tail) {
		return fmt.Errorf("what arrived does not match its sha256 checksum: expected %x, got %x", d.tail, d.hash.Sum(nil))
	}
	return nil
}

package raftlog

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/util/durable"
)

// copyBytes is how much is copied at a time.
const copyBytes = 1 << 20

// Copy copies the log in from, which nobody writes to, into the directory to, which it makes if needed, and makes the copy
// durable. copied, if set, hears of the bytes as they are written. What an error leaves behind is no log.
func Copy(fsys vfs.FS, from, to string, copied func(bytes int64)) error {
	segs, err := listSegments(fsys, from)
	if err != nil {
		return err
	}
	if len(segs) == 0 {
		return fmt.Errorf("copy raft log: %s: %w", from, ErrNotFound)
	}
	if err := checkSequence(fsys, from, segs); err != nil {
		return fmt.Errorf("copy raft log: %w", err)
	}
	if err := fsys.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("copy raft log: %w", err)
	}
	buf := make([]byte, copyBytes)
	for _, seg := range segs {
		if err := copyFile(fsys, fsys.PathJoin(from, seg.String()), fsys.PathJoin(to, seg.String()), buf, copied); err != nil {
			return fmt.Errorf("copy raft log: segment %s: %w", seg, err)
		}
	}
	return errors.Join(durable.Names(fsys, to), durable.Names(fsys, fsys.PathDir(to)))
}

func copyFile(fsys vfs.FS, from, to string, buf []byte, copied func(bytes int64)) (err error) {
	src, err := fsys.Open(from, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := fsys.Create(to, writeCategory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
			if copied != nil {
				copied(int64(n))
			}
		}
		if err == io.EOF {
			return dst.Sync()
		}
		if err != nil {
			return err
		}
	}
}

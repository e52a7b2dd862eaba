package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The next segment is made under spareName before it gets its own. etcd ignores and overwrites that file, and has a second.
const (
	spareName     = "0.tmp"
	spareNameEtcd = "1.tmp"
)

// A segment is one file of the log, known by its name.
type segment struct {
	seq   uint64
	index uint64 // last index before the segment plus one: no first entry in it is above
}

func (s segment) String() string { return fmt.Sprintf("%016x-%016x.wal", s.seq, s.index) }

func parseSegment(name string) (s segment, ok bool) {
	base, ok := strings.CutSuffix(name, ".wal")
	if !ok || len(base) != 33 || base[16] != '-' {
		return s, false
	}
	var err1, err2 error
	s.seq, err1 = strconv.ParseUint(base[:16], 16, 64)
	s.index, err2 = strconv.ParseUint(base[17:], 16, 64)
	return s, err1 == nil && err2 == nil && s.String() == name
}

// Exists reports whether dir holds a log.
func Exists(fsys vfs.FS, dir string) (bool, error) {
	segs, err := listSegments(fsys, dir)
	if err != nil {
		return false, err
	}
	return len(segs) > 0, nil
}

// listSegments returns the segments of dir in order. Other files may stand there too.
func listSegments(fsys vfs.FS, dir string) (segs []segment, err error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list raft log %s: %w", dir, err)
	}
	for _, name := range names {
		if s, ok := parseSegment(name); ok {
			segs = append(segs, s)
		}
	}
	slices.SortFunc(segs, func(a, b segment) int { return cmp.Compare(a.seq, b.seq) })
	return segs, nil
}

// checkSequence refuses a log with a hole. Segments go oldest first, each removal durable before the next, so that no
// crash makes one.
func checkSequence(fsys vfs.FS, dir string, segs []segment) error {
	for i := 1; i < len(segs); i++ {
		prev, s := segs[i-1], segs[i]
		if s.seq != prev.seq+1 {
			return &DamageError{
				File:   fsys.PathJoin(dir, s.String()),
				Cause:  fmt.Sprintf("segment %x follows segment %x (%s), what lies between is missing", s.seq, prev.seq, prev),
				Remedy: remedySegment,
			}
		}
	}
	return nil
}

// createFile makes an empty file of size bytes that read as zero, with its blocks allocated where the system can.
func createFile(fsys vfs.FS, path string, size int64) (vfs.File, error) {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old %s: %w", path, err)
	}
	f, err := fsys.OpenReadWrite(path, writeCategory)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	if err := extend(f, 0, size); err != nil {
		// A part may have been allocated; on a full disk it is needed elsewhere.
		return nil, errors.Join(fmt.Errorf("allocate %d bytes for %s: %w", size, path, err), f.Close(), fsys.Remove(path))
	}
	return f, nil
}

// writeCategory labels our writes in Pebble's disk-write statistics.
const writeCategory = vfs.DiskWriteCategory("raftlog")

// extend lets the file, now of size bytes, end at to. A size that is already right lets a sync write data alone.
func extend(f vfs.File, size, to int64) error {
	if size >= to {
		return nil
	}
	if done, err := allocate(f, to); done || err != nil {
		return err
	}
	_, err := f.WriteAt([]byte{0}, to-1)
	return err
}

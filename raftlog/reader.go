package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// recordReader reads the records of one segment in order and checks each. It keeps one buffer, so the data of a record is
// good until the next one is read.
type recordReader struct {
	f    vfs.File
	path string
	size int64  // of the file
	off  int64  // of the next record
	crc  uint32 // rolling sum before the next record
	buf  []byte // bytes of the file from off on that were read already; a window of mem
	mem  []byte
	most int64 // how much is read at a time, unless a record is larger
}

// errBadRecord marks a record that is not what was once written there. Whether it is torn or damaged is for judgeTail.
var errBadRecord = errors.New("bad record")

// openReader starts at an offset with the rolling sum before it. window is how much is read at a time.
func openReader(fsys vfs.FS, path string, off int64, crc uint32, window int64) (*recordReader, error) {
	f, err := fsys.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("open raft log segment: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stat %s: %w", path, err), f.Close())
	}
	return &recordReader{f: f, path: path, size: info.Size(), off: off, crc: crc, most: window}, nil
}

func (r *recordReader) Close() error { return r.f.Close() }

// fill makes n bytes from r.off on available; there must be as many in the file.
func (r *recordReader) fill(n int64) error {
	if int64(len(r.buf)) >= n {
		return nil
	}
	want := max(n, min(r.most, r.size-r.off))
	mem := r.mem
	if want > int64(len(mem)) {
		mem = make([]byte, want)
	}
	have := copy(mem, r.buf)
	r.mem = mem
	if _, err := r.f.ReadAt(r.mem[have:want], r.off+int64(have)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // io.EOF is the good end of next
		}
		return fmt.Errorf("read %s at offset %d: %w", r.path, r.off, err)
	}
	r.buf = r.mem[:want]
	return nil
}

// next returns the next record. io.EOF is the end of the log in this file: the file ends, or the length field is zero.
// errBadRecord leaves the reader where it was. For a crc record the reader takes over the sum it carries.
func (r *recordReader) next() (frame, error) {
	left := r.size - r.off
	if left < frameHeaderBytes {
		// Too short for a length field: a file that another tool cut may end so. What is not zero is no end.
		if err := r.fill(left); err != nil {
			return frame{}, err
		}
		if allZero(r.buf) {
			return frame{}, io.EOF
		}
		return frame{}, fmt.Errorf("%w: %d bytes before the end of the file", errBadRecord, left)
	}
	if err := r.fill(frameHeaderBytes); err != nil {
		return frame{}, err
	}
	field := binary.LittleEndian.Uint64(r.buf)
	if field == 0 {
		return frame{}, io.EOF
	}
	n, pad, ok := parseLength(field)
	if !ok {
		return frame{}, fmt.Errorf("%w: length field %016x is not one that is ever written", errBadRecord, field)
	}
	if n > left-frameHeaderBytes-pad {
		return frame{}, fmt.Errorf("%w: length %d goes beyond the end of the file (%d)", errBadRecord, n, r.size)
	}
	if err := r.fill(frameHeaderBytes + n + pad); err != nil {
		return frame{}, err
	}
	f, ok := parseFrame(r.buf)
	if !ok {
		return frame{}, fmt.Errorf("%w: %d bytes that are no record", errBadRecord, n)
	}
	if f.typ == TypeCRC {
		r.crc = f.crc
	} else {
		if !f.follows(r.crc) {
			return frame{}, fmt.Errorf("%w: %s record whose checksum does not match", errBadRecord, f.typ)
		}
		r.crc = f.crc
	}
	r.buf = r.buf[f.size:]
	r.off += f.size
	return f, nil
}

// restIsZero reports whether nothing but zero follows in the file.
func (r *recordReader) restIsZero() (bool, error) {
	for off := r.off; off < r.size; {
		n := min(int64(len(r.mem)), r.size-off)
		if _, err := r.f.ReadAt(r.mem[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("read %s at offset %d: %w", r.path, off, err)
		}
		if !allZero(r.mem[:n]) {
			return false, nil
		}
		off += n
	}
	return true, nil
}

// rest returns everything from the next record to the end of the file.
func (r *recordReader) rest() ([]byte, error) {
	b := make([]byte, r.size-r.off)
	if _, err := r.f.ReadAt(b, r.off); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s at offset %d: %w", r.path, r.off, err)
	}
	return b, nil
}

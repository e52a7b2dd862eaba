// Package checkpoint carries the files of a store from one member to another: a directory becomes a stream, and the stream a
// directory again, durable and checked.
//
// The files of a store's checkpoint never change and are shared with the store by links, so that sending costs one pass
// over the disk and receiving another; nothing is encoded anew. What the files mean is not known here.
//
//	Shape    magic, then files, each with a checksum behind it, then the end, which says how many there were; DESIGN.md draws it
//	Units    sizes in bytes; numbers are big endian
//	Errors   ErrDamaged; a failure of disk or network is wrapped
//	Source   rqlite: snapshot/DESIGN.md, for a database and what belongs to it as one framed stream
package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/util/durable"
)

// Version names the form of the stream: who reads another one cannot read this.
const Version = "1"

// ErrDamaged says that a stream is not what a Reader made of a directory.
var ErrDamaged = errors.New("checkpoint is damaged")

const (
	magic = "holdfast checkpoint 1\n"
	// nameBytesMax bounds the name of a file, as file systems do.
	nameBytesMax = 255
	// copyBytes is read and written at a time.
	copyBytes = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Reader is a directory as a stream. The files must not change while it is read.
type Reader struct {
	fs    vfs.FS
	dir   string
	files []file // not begun yet
	size  int64

	sum   uint32 // of everything read so far
	ahead []byte // to be read before what follows
	open  vfs.File
	left  int64 // of open
	ended bool  // the end is in ahead, or was
	count uint32
}

type file struct {
	name string
	size int64
}

// NewReader reads what is in dir, which holds files only.
func NewReader(fs vfs.FS, dir string) (*Reader, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint %s: %w", dir, err)
	}
	slices.Sort(names)
	r := &Reader{fs: fs, dir: dir, ahead: []byte(magic), size: int64(len(magic)) + endBytes}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("read checkpoint %s: %w", dir, err)
		}
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return nil, fmt.Errorf("read checkpoint %s: %w", dir, err)
		}
		if info.IsDir() {
			return nil, fmt.Errorf("read checkpoint %s: %s is a directory", dir, name)
		}
		r.files = append(r.files, file{name, info.Size()})
		r.size += frameBytes(name) + info.Size()
	}
	return r, nil
}

// What a file takes besides its content, and the end.
const endBytes = 2 + 4 + 4

func frameBytes(name string) int64 { return 2 + int64(len(name)) + 8 + 4 }

// Size is how many bytes Read gives in all.
func (r *Reader) Size() int64 { return r.size }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.ahead) == 0 && r.open == nil {
		if r.ended {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, fmt.Errorf("read checkpoint %s: %w", r.dir, err)
		}
	}
	if len(r.ahead) > 0 {
		n := copy(p, r.ahead)
		r.sum = crc32.Update(r.sum, castagnoli, r.ahead[:n])
		r.ahead = r.ahead[n:]
		return n, nil
	}
	n, err := r.readFile(p)
	if err != nil {
		return n, fmt.Errorf("read checkpoint %s: %w", r.dir, err)
	}
	return n, nil
}

// next puts the head of the next file ahead, or the end.
func (r *Reader) next() (err error) {
	if len(r.files) == 0 {
		r.ahead = binary.BigEndian.AppendUint32(make([]byte, 2), r.count)
		r.ahead = binary.BigEndian.AppendUint32(r.ahead, crc32.Update(r.sum, castagnoli, r.ahead))
		r.ended = true
		return nil
	}
	f := r.files[0]
	r.files = r.files[1:]
	r.count++
	r.ahead = binary.BigEndian.AppendUint16(nil, uint16(len(f.name)))
	r.ahead = append(r.ahead, f.name...)
	r.ahead = binary.BigEndian.AppendUint64(r.ahead, uint64(f.size))
	r.left = f.size
	r.open, err = r.fs.Open(r.fs.PathJoin(r.dir, f.name), vfs.SequentialReadsOption)
	return err
}

// readFile reads from the open file, and puts the sum ahead when it has ended.
func (r *Reader) readFile(p []byte) (n int, err error) {
	if r.left > 0 {
		n, err = r.open.Read(p[:min(int64(len(p)), r.left)])
		r.sum = crc32.Update(r.sum, castagnoli, p[:n])
		r.left -= int64(n)
		switch {
		case err == io.EOF && r.left > 0:
			return n, fmt.Errorf("a file lacks %d bytes: %w", r.left, io.ErrUnexpectedEOF)
		case err != nil && err != io.EOF:
			return n, err
		}
	}
	if r.left == 0 {
		r.ahead = binary.BigEndian.AppendUint32(r.ahead, r.sum)
		err = r.open.Close()
		r.open = nil
		return n, err
	}
	return n, nil
}

// Close ends the reading.
func (r *Reader) Close() error {
	if r.open == nil {
		return nil
	}
	err := r.open.Close()
	r.open = nil
	return err
}

// Receive makes dir, which must not exist, out of a stream. All of it is durable when Receive returns, but for the name of
// dir itself. What a failure leaves is the caller's to remove.
func Receive(fs vfs.FS, dir string, from io.Reader) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("receive checkpoint: %w", err)
	}
	w := &receiver{fs: fs, dir: dir, from: from, buf: make([]byte, copyBytes)}
	err := w.run()
	if err == nil {
		err = durable.Names(fs, dir)
	}
	if err != nil {
		return fmt.Errorf("receive checkpoint: %w", err)
	}
	return nil
}

type receiver struct {
	fs   vfs.FS
	dir  string
	from io.Reader
	sum  uint32 // of everything read so far
	buf  []byte
	last string // name of the file before
}

func (w *receiver) run() error {
	head, err := w.read(len(magic))
	if err != nil {
		return err
	}
	if string(head) != magic {
		return fmt.Errorf("%w: it begins with %q", ErrDamaged, head)
	}
	for count := uint32(0); ; count++ {
		b, err := w.read(2)
		if err != nil {
			return err
		}
		n := binary.BigEndian.Uint16(b)
		if n == 0 {
			return w.end(count)
		}
		if err := w.file(int(n)); err != nil {
			return err
		}
	}
}

// read reads n bytes, few enough for the buffer. They are valid until the next call.
func (w *receiver) read(n int) ([]byte, error) {
	b := w.buf[:n]
	if _, err := io.ReadFull(w.from, b); err != nil {
		return nil, inside(err)
	}
	w.sum = crc32.Update(w.sum, castagnoli, b)
	return b, nil
}

// inside is err where the stream may not end.
func inside(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// check reads a sum and compares it with that of everything before it.
func (w *receiver) check(what string) error {
	want := w.sum
	b, err := w.read(4)
	if err != nil {
		return err
	}
	if got := binary.BigEndian.Uint32(b); got != want {
		return fmt.Errorf("%w: the checksum behind %s is %08x, what came before it sums to %08x", ErrDamaged, what, got, want)
	}
	return nil
}

// file receives one file whose name has n bytes.
func (w *receiver) file(n int) error {
	if n > nameBytesMax {
		return fmt.Errorf("%w: a name of %d bytes", ErrDamaged, n)
	}
	head, err := w.read(n + 8)
	if err != nil {
		return err
	}
	name, size := string(head[:n]), binary.BigEndian.Uint64(head[n:])
	if err := checkName(name); err != nil {
		return err
	}
	if name <= w.last {
		return fmt.Errorf("%w: file %s after %s", ErrDamaged, name, w.last)
	}
	w.last = name
	f, err := w.fs.Create(w.fs.PathJoin(w.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = w.content(f, size)
	if err == nil {
		err = w.check(name)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (w *receiver) content(f vfs.File, size uint64) error {
	for size > 0 {
		b, err := w.read(int(min(size, copyBytes)))
		if err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
		size -= uint64(len(b))
	}
	return nil
}

// end reads the end, behind which nothing may come.
func (w *receiver) end(count uint32) error {
	b, err := w.read(4)
	if err != nil {
		return err
	}
	if said := binary.BigEndian.Uint32(b); said != count {
		return fmt.Errorf("%w: %d files came, it says there are %d", ErrDamaged, count, said)
	}
	if err := w.check("the end"); err != nil {
		return err
	}
	switch _, err := io.ReadFull(w.from, w.buf[:1]); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: it goes on behind its end", ErrDamaged)
	default:
		return err
	}
}

// checkName lets no name out of the directory, and none through that a store would not give.
func checkName(name string) error {
	good := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._", r)
	}
	if name == "" || name[0] == '.' || len(name) > nameBytesMax || strings.ContainsFunc(name, func(r rune) bool { return !good(r) }) {
		return fmt.Errorf("%w: a file named %q", ErrDamaged, name)
	}
	return nil
}

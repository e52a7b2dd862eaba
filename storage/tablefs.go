package storage

import (
	"runtime"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableFS collects what is written to tables. Pebble writes each block by a call of its own, which was 2 to 6 % of the CPU of a
// member under puts.
//
// It also lets others go first after each block, some 50 µs of work, unless the work is late: flushes and merges have time most often. Otherwise one that runs
// keeps its processor for 10 ms, and a put, which passes through half a dozen goroutines, may wait for it at each (bench/NOTES.md, compact-serving). Where
// hundreds of goroutines can run, to make way at each block is to wait for them all, and took a merge of a load two thirds of its time.
type tableFS struct {
	vfs.FS
	late func() bool
}

// Create implements vfs.FS.
func (t tableFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := t.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	return &tableFile{File: f, late: t.late}, nil
}

// Unwrap implements vfs.FS.
func (t tableFS) Unwrap() vfs.FS { return t.FS }

// tableBuffer is how much is written to a table at once: some thirty blocks. Each table that is written has two, and one is written at a time, or two.
const tableBuffer = 256 << 10

var tableBuffers = sync.Pool{New: func() any { b := make([]byte, 0, tableBuffer); return &b }}

func takeBuffer() []byte { return (*tableBuffers.Get().(*[]byte))[:0] }

// tableFile is a file that is written from its beginning to its end and then closed. What is not written yet is neither read nor synced by its
// name before it was synced or closed here. It is used by one goroutine at a time, and writes in another one: who fills the next buffer does not wait for the
// disk, nor for a processor behind it.
type tableFile struct {
	vfs.File
	late func() bool // nil: never
	buf  []byte
	// writing is given the result of the write under way, of the bytes in busy; nil if there is none.
	writing chan error
	busy    []byte
	written int64 // bytes whose writes have ended
	err     error // of a write that failed: what follows would stand in the wrong place
}

// Write implements vfs.File. Its error may be that of an earlier write.
func (f *tableFile) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if f.buf == nil {
			f.buf = takeBuffer()
		}
		n := min(len(rest), cap(f.buf)-len(f.buf))
		f.buf, rest = append(f.buf, rest[:n]...), rest[n:]
		if len(f.buf) == cap(f.buf) {
			if err := f.begin(); err != nil {
				return 0, err
			}
		}
	}
	if f.late == nil || !f.late() {
		runtime.Gosched() // see tableFS
	}
	return len(p), nil
}

// begin begins to write what is collected, once the write before it has ended.
func (f *tableFile) begin() error {
	if err := f.settle(); err != nil || len(f.buf) == 0 {
		return err
	}
	f.buf, f.busy = f.busy[:0], f.buf // nil at first
	f.writing = make(chan error, 1)
	go func(to vfs.File, p []byte, ended chan<- error) {
		_, err := to.Write(p)
		ended <- err
	}(f.File, f.busy, f.writing)
	return nil
}

// settle waits for the write under way.
func (f *tableFile) settle() error {
	if f.writing != nil {
		f.err = <-f.writing
		f.writing = nil
		f.written += int64(len(f.busy))
	}
	return f.err
}

// flush writes what is collected.
func (f *tableFile) flush() error {
	if err := f.begin(); err != nil {
		return err
	}
	return f.settle()
}

// Sync implements vfs.File.
func (f *tableFile) Sync() error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *tableFile) SyncData() error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.SyncData()
}

// SyncTo implements vfs.File. It promises nothing, so it does not wait for what is being written.
func (f *tableFile) SyncTo(length int64) (fullSync bool, err error) {
	if length = min(length, f.written); f.err != nil || length == 0 {
		return false, f.err
	}
	_, err = f.File.SyncTo(length)
	return false, err
}

// Stat implements vfs.File.
func (f *tableFile) Stat() (vfs.FileInfo, error) {
	if err := f.flush(); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

// Close implements vfs.File. A file that failed is closed, too.
func (f *tableFile) Close() error {
	err := f.flush()
	for _, b := range [][]byte{f.buf, f.busy} {
		if b != nil {
			tableBuffers.Put(&b)
		}
	}
	f.buf, f.busy = nil, nil
	if closed := f.File.Close(); err == nil {
		err = closed
	}
	return err
}

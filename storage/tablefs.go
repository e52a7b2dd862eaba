package storage

import (
	"runtime"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableFS collects what is written to tables. Pebble writes each block by a call of its own, which was 2 to 6 % of the CPU of a
// member under puts.
//
// It also lets others go first after each block, some 50 µs of work: flushes and merges have time. Otherwise one that runs keeps its processor for 10 ms, and
// a put, which passes through half a dozen goroutines, may wait for it at each (bench/NOTES.md, compact-serving).
type tableFS struct{ vfs.FS }

// Create implements vfs.FS.
func (t tableFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := t.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	return &tableFile{File: f}, nil
}

// Unwrap implements vfs.FS.
func (t tableFS) Unwrap() vfs.FS { return t.FS }

// tableBuffer is how much is written to a table at once: some thirty blocks. One table is written at a time, or two.
const tableBuffer = 256 << 10

// tableFile is a file that is written from its beginning to its end and then closed. What is not written yet is neither read nor synced by its
// name before it was synced or closed here.
type tableFile struct {
	vfs.File
	buf []byte
	err error // of a write that failed: what follows would stand in the wrong place
}

// Write implements vfs.File. Its error may be that of an earlier write.
func (f *tableFile) Write(p []byte) (int, error) {
	if len(f.buf)+len(p) > tableBuffer {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) >= tableBuffer {
		n, err := f.File.Write(p)
		f.err = err
		return n, err
	}
	if f.buf == nil {
		f.buf = make([]byte, 0, tableBuffer)
	}
	f.buf = append(f.buf, p...)
	runtime.Gosched() // see tableFS
	return len(p), nil
}

func (f *tableFile) flush() error {
	if f.err == nil && len(f.buf) > 0 {
		_, f.err = f.File.Write(f.buf)
		f.buf = f.buf[:0]
	}
	return f.err
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

// SyncTo implements vfs.File.
func (f *tableFile) SyncTo(length int64) (fullSync bool, err error) {
	if err := f.flush(); err != nil {
		return false, err
	}
	return f.File.SyncTo(length)
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
	if closed := f.File.Close(); err == nil {
		err = closed
	}
	return err
}

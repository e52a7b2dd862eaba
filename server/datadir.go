package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/raftlog"
	"holdfast/util/durable"
)

// formatVersion names the layout and encodings of a data directory. It changes when an older version could not read
// what a newer one wrote.
const formatVersion = "1"

// ErrInUse says that another process holds a data directory.
var ErrInUse = errors.New("in use by another process")

// dataDir is the directory of one member:
//
//	member/FORMAT   the format version, one line
//	member/LOCK     held while a member runs
//	member/store/   keys, leases, membership: one Pebble database
//	member/STORE    the name of the directory with the store, once a received state has replaced the first one
//	member/wal/     the raft log, in etcd's format; elsewhere if the configuration says so
//	member/tmp/     files of the present run; emptied at start
//
// One that belongs to etcd is taken over if no etcd has run on it yet (takeover.go).
type dataDir struct {
	fs   vfs.FS
	root string
	wal  string
	lock io.Closer
}

func (d *dataDir) path(names ...string) string {
	return d.fs.PathJoin(append([]string{d.root, "member"}, names...)...)
}

// newDataDir is a directory that nobody has looked at yet.
func newDataDir(disk vfs.FS, root, wal string) *dataDir {
	d := &dataDir{fs: disk, root: root, wal: wal}
	if d.wal == "" {
		d.wal = d.path("wal")
	}
	return d
}

// HasData tells whether the data directory is one of a member: then it is not asked what its cluster was to be. It is an
// error if the directory belongs to another program.
func (c *Config) HasData() (bool, error) {
	if err := c.fill(); err != nil {
		return false, err
	}
	d := newDataDir(c.FS, c.DataDir, c.WALDir)
	if err := d.refuseForeign(); err != nil {
		return false, err
	}
	for _, dir := range []string{d.wal, d.path("wal")} { // in the usual place it may have been left behind
		if found, err := raftlog.Exists(d.fs, dir); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// openDataDir takes hold of the directory and checks that it is one of ours, or new.
func openDataDir(disk vfs.FS, root, wal string) (*dataDir, error) {
	d := newDataDir(disk, root, wal)
	if err := d.refuseForeign(); err != nil {
		return nil, err
	}
	if err := d.hold(); err != nil {
		return nil, err
	}
	if err := errors.Join(d.checkFormat(), d.emptyTemp()); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

// hold keeps other processes out of the directory until the lock is closed.
func (d *dataDir) hold() error {
	if err := d.fs.MkdirAll(d.path(), 0o700); err != nil {
		return fmt.Errorf("create data directory %s: %w", d.root, err)
	}
	lock, err := d.fs.Lock(d.path("LOCK"))
	if err != nil {
		return fmt.Errorf("data directory %s is %w (%w): stop that process, or give this member a directory of its own with --data-dir", d.root, ErrInUse, err)
	}
	d.lock = lock
	return nil
}

// isEtcds tells whether the data here is in etcd's files.
func (d *dataDir) isEtcds() bool {
	return !d.hasStore() && (d.has(d.path("snap", "db")) || d.has(d.path(snapTaken, "db")))
}

// refuseForeign finds directories that belong to etcd.
func (d *dataDir) refuseForeign() error {
	if d.has(d.fs.PathJoin(d.root, "proxy")) {
		return fmt.Errorf("data directory %s was used by an etcd proxy, which keeps no data: choose another --data-dir", d.root)
	}
	etcd, ours := d.has(d.path("snap", "db")), d.hasStore()
	switch {
	case etcd && ours:
		return fmt.Errorf("data directory %s holds both an etcd database and a Holdfast store: a take-over from etcd was interrupted; move member/store away to return to etcd", d.root)
	case etcd && !newEtcdDir(d.fs, d.root, d.wal).untouched():
		return fmt.Errorf("data directory %s belongs to etcd (it holds member/snap/db): choose another --data-dir, or start etcd on this one; to make it Holdfast's, stop that etcd and run: holdfast utl import --in-place %s", d.root, d.root)
	}
	return nil
}

func (d *dataDir) has(path string) bool {
	_, err := d.fs.Stat(path)
	return err == nil
}

// checkFormat reads the format version, or writes it into a new directory.
func (d *dataDir) checkFormat() error {
	found, err := d.hasFormat()
	switch {
	case err != nil || found:
		return err
	case d.isEtcds():
		return nil // a take-over writes it
	case d.hasStore() || d.has(d.path("wal")):
		return fmt.Errorf("data directory %s holds member/store or member/wal but no member/FORMAT: it was not made by Holdfast, or is damaged; choose another --data-dir, or restore it whole", d.root)
	}
	return d.writeFormat()
}

// hasFormat tells whether the directory names its format, which must then be that of this version.
func (d *dataDir) hasFormat() (bool, error) {
	f, err := d.fs.Open(d.path("FORMAT"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the format of data directory %s: %w", d.root, err)
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("read the format of data directory %s: %w", d.root, err)
	}
	if found := strings.TrimSpace(string(text)); found != formatVersion {
		return false, fmt.Errorf("data directory %s has format %q, this version of Holdfast reads %q: start it with the version that wrote it, or a newer one", d.root, found, formatVersion)
	}
	return true, nil
}

// writeFormat writes the format version into a new directory.
func (d *dataDir) writeFormat() error {
	err := d.writeFile("FORMAT", formatVersion+"\n", failpointFormatBeforeRename, failpointFormatAfterRename)
	for _, dir := range []string{d.root, d.fs.PathDir(d.root)} {
		if err == nil {
			err = durable.Names(d.fs, dir)
		}
	}
	if err != nil {
		return fmt.Errorf("write the format of data directory %s: %w", d.root, err)
	}
	return nil
}

// emptyTemp removes what an earlier run left behind and makes the directory anew.
func (d *dataDir) emptyTemp() error {
	if err := d.fs.RemoveAll(d.path("tmp")); err != nil {
		return fmt.Errorf("empty the temporary directory: %w", err)
	}
	if err := d.fs.MkdirAll(d.path("tmp"), 0o700); err != nil {
		return fmt.Errorf("make the temporary directory: %w", err)
	}
	return nil
}

package utl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"holdfast/ctl/output"
	"holdfast/etcdfile"
	"holdfast/server"
)

// database is where etcd keeps its database in a data directory.
var database = filepath.Join("member", "snap", "db")

// kind is what a path leads to.
type kind int

const (
	aFile    kind = iota // a database, or a snapshot
	etcds                // a data directory of etcd
	holdfast             // a data directory of Holdfast
)

// look finds out what a path leads to. Where etcd would keep its database, the directory of Holdfast is meant that lies around it:
// so the path that a script has for etcd means the same data.
func look(path string) (kind, string, error) {
	info, err := os.Stat(path)
	if err != nil {
		if dir, is := strings.CutSuffix(path, string(filepath.Separator)+database); is && isHoldfast(dir) {
			return holdfast, dir, nil
		}
		return 0, "", err
	}
	switch {
	case info.Mode().IsRegular():
		return aFile, path, nil
	case isHoldfast(path):
		return holdfast, path, nil
	case exists(filepath.Join(path, database)):
		return etcds, path, nil
	case info.IsDir():
		return 0, "", fmt.Errorf("%s is no data directory: it holds neither member/store nor member/snap/db", path)
	}
	return 0, "", fmt.Errorf("%s is not a file", path)
}

func isHoldfast(dir string) bool {
	return exists(filepath.Join(dir, "member", "store")) || exists(filepath.Join(dir, "member", "STORE"))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// viewers look at data: on the database of etcd's that a path leads to, or on a member of Holdfast.
type viewers struct {
	database func(*etcdfile.Database) (output.Report, error)
	member   func(*server.Offline) (output.Report, error)
}

// view shows what a path leads to. Nothing is changed there.
func (t *tool) view(cmd *cobra.Command, path, walDir string, v viewers) (r output.Report, err error) {
	what, path, err := look(path)
	if err != nil {
		return output.Report{}, err
	}
	if what == holdfast {
		return t.viewMember(cmd, path, walDir, v.member)
	}
	if what == etcds {
		path = filepath.Join(path, database)
		logger(cmd).Info("showing the state at etcd's last flush: what is in its raft log only is left out", "path", path)
	}
	db, err := t.openDatabase(path)
	if err != nil {
		return output.Report{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return v.database(db)
}

func (t *tool) viewMember(cmd *cobra.Command, dir, walDir string, find func(*server.Offline) (output.Report, error)) (r output.Report, err error) {
	var o *server.Offline
	err = t.wait(server.ErrInUse, func() error {
		o, err = server.OpenOffline(server.OfflineConfig{DataDir: dir, WALDir: walDir, Log: nothing})
		return err
	})
	if err != nil {
		return output.Report{}, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if err := o.Apply(o.Acknowledged()); err != nil {
		return output.Report{}, err
	}
	if last := o.State().Last; last > o.Applied() {
		logger(cmd).Info("showing the state that is known to be committed: the raft log holds more, which may not be", "applied-index", o.Applied(), "last-index", last)
	}
	return find(o)
}

// walFlag lets a command find a raft log that --wal-dir has moved. etcd's tool has no such flag.
func (t *tool) walFlag(cmd *cobra.Command, walDir *string) {
	if t.etcd {
		return
	}
	cmd.Flags().StringVar(walDir, "wal-dir", "", "Path to the WAL directory of a Holdfast data directory (within it if none given)")
	must(cmd.MarkFlagDirname("wal-dir"))
}

// lockInterval stands between two attempts to get a file that another process holds.
const lockInterval = 50 * time.Millisecond

// wait tries until what was tried does not end with busy any more, as long as --timeout allows.
func (t *tool) wait(busy error, try func() error) error {
	began := time.Now()
	for {
		err := try()
		if !errors.Is(err, busy) {
			return err
		}
		if t.timeout > 0 && time.Since(began) > t.timeout {
			return fmt.Errorf("%w; waited %v (--timeout): stop that process, or work on a snapshot or a copy", err, t.timeout)
		}
		time.Sleep(lockInterval)
	}
}

// openDatabase opens a database file of etcd's.
func (t *tool) openDatabase(path string) (db *etcdfile.Database, err error) {
	if what, _, err := look(path); err != nil {
		return nil, err
	} else if what != aFile {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	err = t.wait(etcdfile.ErrInUse, func() error {
		db, err = etcdfile.Open(vfs.Default, path)
		return err
	})
	return db, err
}

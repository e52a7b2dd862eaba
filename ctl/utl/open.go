package utl

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/etcdfile"
)

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
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	err = t.wait(etcdfile.ErrInUse, func() error {
		db, err = etcdfile.Open(vfs.Default, path)
		return err
	})
	return db, err
}

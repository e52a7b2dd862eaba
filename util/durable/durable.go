// Package durable makes names outlive a crash: a file that is synced may be lost all the same if the directory that names it is not.
//
//	Source  fsync(2); the file system in memory of Pebble's vfs loses what was not synced as a disk would
package durable

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names makes creations, renames and removals in dir durable.
func Names(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

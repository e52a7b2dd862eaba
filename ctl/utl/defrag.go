package utl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"holdfast/etcdfile"
	"holdfast/server"
)

func (t *tool) defrag() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "defrag",
		Short: "Defragments the storage of the etcd",
		Long: `Gives space that is not needed back to the disk, in a data directory that nobody uses. Holdfast does this while it runs, so that
a directory of its own rarely has any; one of etcd's gets a new database file.`,
		Example: "  " + t.name() + " defrag --data-dir default.etcd",
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if err := t.defragment(cmd, dataDir); err != nil {
				//lint:ignore ST1005 the words are etcd's
				return fmt.Errorf("Failed to defragment etcd data[%s] (%w)", dataDir, err)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "Required. Defragments a data directory not in use by etcd.")
	must(cmd.MarkFlagRequired("data-dir"))
	must(cmd.MarkFlagDirname("data-dir"))
	return cmd
}

func (t *tool) defragment(cmd *cobra.Command, dataDir string) error {
	began := time.Now()
	path := filepath.Join(dataDir, database)
	var before, after int64
	var err error
	if isHoldfast(dataDir) {
		path = filepath.Join(dataDir, "member")
		err = t.wait(server.ErrInUse, func() error {
			before, after, err = server.Defragment(cmd.Context(), vfs.Default, dataDir)
			return err
		})
	} else {
		before, after, err = t.rewrite(path)
	}
	if err != nil {
		return err
	}
	logger(cmd).Info("finished defragmenting directory", "path", path, "current-db-size-bytes-diff", after-before,
		"current-db-size-bytes", after, "current-db-size", humanize.Bytes(uint64(after)), "took", time.Since(began))
	return nil
}

// rewrite puts a new database in the place of an etcd's, with edits. It appears under its name whole.
func (t *tool) rewrite(path string, edits ...etcdfile.Edit) (before, after int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	db, err := t.openDatabase(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }() // the lock holds until the new file has the name
	fresh := path + ".tmp.holdfast"
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return 0, 0, err
	}
	if err := etcdfile.Rewrite(vfs.Default, fresh, db, edits...); err != nil {
		return 0, 0, err
	}
	written, err := os.Stat(fresh)
	if err == nil {
		err = os.Chmod(fresh, info.Mode().Perm())
	}
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return 0, 0, errors.Join(err, os.Remove(fresh))
	}
	return info.Size(), written.Size(), syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/storage"
)

// Defragment gives the space that nothing needs in the data directory of a member that does not run back to the disk, and returns
// the sizes of the store. A member that runs does it by itself.
func Defragment(ctx context.Context, disk vfs.FS, dataDir string) (before, after int64, err error) {
	d := newDataDir(disk, dataDir, "")
	if !d.hasStore() {
		return 0, 0, fmt.Errorf("%s is no data directory of Holdfast: it has no member/store: %w", dataDir, fs.ErrNotExist)
	}
	if err := d.checkFormat(); err != nil {
		return 0, 0, err
	}
	if err := d.hold(); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.lock.Close()) }()
	dir, err := d.settleStore(slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, 0, err
	}
	st, err := storage.Open(storage.Config{FS: disk, Dir: dir})
	if err != nil {
		return 0, 0, err
	}
	before = st.Size()
	err = st.Compact(ctx)
	after = st.Size()
	return before, after, errors.Join(err, st.Close())
}

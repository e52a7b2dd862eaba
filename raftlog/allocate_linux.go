package raftlog

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// allocate lets f end at size and have its blocks, and keeps others from reading it, as etcd does. vfs.File.Preallocate
// would not do: it leaves the size alone, so that each sync would have to write the inode too.
func allocate(f vfs.File, size int64) (done bool, err error) {
	fd := f.Fd()
	if fd == vfs.InvalidFd {
		return false, nil
	}
	if err := unix.Fchmod(int(fd), 0o600); err != nil {
		return false, err
	}
	for {
		switch err := unix.Fallocate(int(fd), 0, 0, size); {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP):
			return false, nil
		default:
			return false, err
		}
	}
}

package storage

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/util/durable"
)

// manifestFS makes the name of each new manifest durable as soon as it is created. Pebble syncs the directory only once for the
// manifest and for the marker that points to it, at every start and whenever it begins a new manifest: a crash in
// between may leave the marker without its manifest, and then the database never opens again.
type manifestFS struct{ vfs.FS }

// Create implements vfs.FS.
func (m manifestFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := m.FS.Create(name, category)
	if err != nil || !strings.HasPrefix(m.PathBase(name), "MANIFEST-") {
		return f, err
	}
	if err := durable.Names(m.FS, m.PathDir(name)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Unwrap implements vfs.FS.
func (m manifestFS) Unwrap() vfs.FS { return m.FS }

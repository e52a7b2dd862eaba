//go:build !linux

package raftlog

import "github.com/cockroachdb/pebble/v2/vfs"

// allocate has no portable form: the file becomes sparse.
func allocate(vfs.File, int64) (done bool, err error) { return false, nil }

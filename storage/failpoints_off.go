//go:build !failpoints

package storage

// Without the build tag a failpoint is an empty function, which the compiler removes.

func failpointBeforeCommit()       {}
func failpointAfterCommit()        {}
func failpointStoreFlushDue() bool { return false }

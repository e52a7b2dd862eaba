//go:build !failpoints

package mvcc

// Without the build tag a failpoint is an empty function, which the compiler removes.

func failpointCompactBeforeCommitBatch()        {}
func failpointCompactAfterCommitBatch()         {}
func failpointCompactBeforeSetFinishedCompact() {}
func failpointCompactAfterSetFinishedCompact()  {}

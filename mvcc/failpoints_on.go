//go:build failpoints

package mvcc

import "go.etcd.io/gofail/runtime"

// The names are etcd's.
var (
	fpCompactBeforeCommitBatch        = runtime.NewFailpoint("compactBeforeCommitBatch")
	fpCompactAfterCommitBatch         = runtime.NewFailpoint("compactAfterCommitBatch")
	fpCompactBeforeSetFinishedCompact = runtime.NewFailpoint("compactBeforeSetFinishedCompact")
	fpCompactAfterSetFinishedCompact  = runtime.NewFailpoint("compactAfterSetFinishedCompact")
)

// reach lets the terms of a failpoint act: panic, sleep or nothing. What a term returns has no meaning here.
func reach(fp *runtime.Failpoint) { _, _ = fp.Acquire() }

func failpointCompactBeforeCommitBatch()        { reach(fpCompactBeforeCommitBatch) }
func failpointCompactAfterCommitBatch()         { reach(fpCompactAfterCommitBatch) }
func failpointCompactBeforeSetFinishedCompact() { reach(fpCompactBeforeSetFinishedCompact) }
func failpointCompactAfterSetFinishedCompact()  { reach(fpCompactAfterSetFinishedCompact) }

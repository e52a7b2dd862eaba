//go:build failpoints

package apply

import "go.etcd.io/gofail/runtime"

// The names are etcd's. Its write-back buffer is what readers see of a batch: here the publication of a run.
var (
	fpBeforeApplyOneEntryNormal           = runtime.NewFailpoint("beforeApplyOneEntryNormal")
	fpBeforeApplyOneConfChange            = runtime.NewFailpoint("beforeApplyOneConfChange")
	fpCommitBeforePreCommitHook           = runtime.NewFailpoint("commitBeforePreCommitHook")
	fpCommitAfterPreCommitHook            = runtime.NewFailpoint("commitAfterPreCommitHook")
	fpBeforeWritebackBuf                  = runtime.NewFailpoint("beforeWritebackBuf")
	fpAfterWritebackBuf                   = runtime.NewFailpoint("afterWritebackBuf")
	fpCompactBeforeCommitScheduledCompact = runtime.NewFailpoint("compactBeforeCommitScheduledCompact")
	fpCompactAfterCommitScheduledCompact  = runtime.NewFailpoint("compactAfterCommitScheduledCompact")
)

// reach lets the terms of a failpoint act: panic, sleep or nothing. What a term returns has no meaning here.
func reach(fp *runtime.Failpoint) { _, _ = fp.Acquire() }

func failpointBeforeApplyOneEntryNormal()           { reach(fpBeforeApplyOneEntryNormal) }
func failpointBeforeApplyOneConfChange()            { reach(fpBeforeApplyOneConfChange) }
func failpointCommitBeforePreCommitHook()           { reach(fpCommitBeforePreCommitHook) }
func failpointCommitAfterPreCommitHook()            { reach(fpCommitAfterPreCommitHook) }
func failpointBeforeWritebackBuf()                  { reach(fpBeforeWritebackBuf) }
func failpointAfterWritebackBuf()                   { reach(fpAfterWritebackBuf) }
func failpointCompactBeforeCommitScheduledCompact() { reach(fpCompactBeforeCommitScheduledCompact) }
func failpointCompactAfterCommitScheduledCompact()  { reach(fpCompactAfterCommitScheduledCompact) }

//go:build !failpoints

package apply

// Without the build tag a failpoint is an empty function, which the compiler removes.

func failpointBeforeApplyOneEntryNormal()           {}
func failpointBeforeApplyOneConfChange()            {}
func failpointCommitBeforePreCommitHook()           {}
func failpointCommitAfterPreCommitHook()            {}
func failpointBeforeWritebackBuf()                  {}
func failpointAfterWritebackBuf()                   {}
func failpointCompactBeforeCommitScheduledCompact() {}
func failpointCompactAfterCommitScheduledCompact()  {}

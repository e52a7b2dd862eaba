//go:build !failpoints

package server

// Without the build tag a failpoint is an empty function, which the compiler removes.

func failpointBeforePublishing()   {}
func failpointFormatBeforeRename() {}
func failpointFormatAfterRename()  {}

func failpointSnapDBRenameBeforeDirSync() {}
func failpointApplyBeforeOpenSnapshot()   {}
func failpointApplyAfterOpenSnapshot()    {}

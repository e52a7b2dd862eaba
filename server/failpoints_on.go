//go:build failpoints

package server

import "go.etcd.io/gofail/runtime"

// The names of etcd's points are etcd's; formatBeforeRename and formatAfterRename, around the naming of the file FORMAT, are ours.
var (
	fpBeforePublishing   = runtime.NewFailpoint("beforePublishing")
	fpFormatBeforeRename = runtime.NewFailpoint("formatBeforeRename")
	fpFormatAfterRename  = runtime.NewFailpoint("formatAfterRename")

	fpSnapDBRenameBeforeDirSync = runtime.NewFailpoint("snapDBRenameBeforeDirSync")
	fpApplyBeforeOpenSnapshot   = runtime.NewFailpoint("applyBeforeOpenSnapshot")
	fpApplyAfterOpenSnapshot    = runtime.NewFailpoint("applyAfterOpenSnapshot")
)

// reach lets the terms of a failpoint act: panic, sleep or nothing. What a term returns has no meaning here.
func reach(fp *runtime.Failpoint) { _, _ = fp.Acquire() }

func failpointBeforePublishing()   { reach(fpBeforePublishing) }
func failpointFormatBeforeRename() { reach(fpFormatBeforeRename) }
func failpointFormatAfterRename()  { reach(fpFormatAfterRename) }

func failpointSnapDBRenameBeforeDirSync() { reach(fpSnapDBRenameBeforeDirSync) }
func failpointApplyBeforeOpenSnapshot()   { reach(fpApplyBeforeOpenSnapshot) }
func failpointApplyAfterOpenSnapshot()    { reach(fpApplyAfterOpenSnapshot) }

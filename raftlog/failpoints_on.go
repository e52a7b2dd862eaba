//go:build failpoints

package raftlog

import "go.etcd.io/gofail/runtime"

// The names are etcd's where etcd has the same point; walBeforeRename and walAfterRename, around the naming of a new
// segment, are ours.
var (
	fpRaftBeforeSave      = runtime.NewFailpoint("raftBeforeSave")
	fpRaftAfterSave       = runtime.NewFailpoint("raftAfterSave")
	fpRaftBeforeSaveSnap  = runtime.NewFailpoint("raftBeforeSaveSnap")
	fpRaftAfterSaveSnap   = runtime.NewFailpoint("raftAfterSaveSnap")
	fpRaftAfterWALRelease = runtime.NewFailpoint("raftAfterWALRelease")
	fpWALBeforeSync       = runtime.NewFailpoint("walBeforeSync")
	fpWALAfterSync        = runtime.NewFailpoint("walAfterSync")
	fpWALBeforeRename     = runtime.NewFailpoint("walBeforeRename")
	fpWALAfterRename      = runtime.NewFailpoint("walAfterRename")
)

// reach lets the terms of a failpoint act: panic, sleep or nothing. What a term returns has no meaning here.
func reach(fp *runtime.Failpoint) { _, _ = fp.Acquire() }

func failpointRaftBeforeSave()      { reach(fpRaftBeforeSave) }
func failpointRaftAfterSave()       { reach(fpRaftAfterSave) }
func failpointRaftBeforeSaveSnap()  { reach(fpRaftBeforeSaveSnap) }
func failpointRaftAfterSaveSnap()   { reach(fpRaftAfterSaveSnap) }
func failpointRaftAfterWALRelease() { reach(fpRaftAfterWALRelease) }
func failpointWALBeforeSync()       { reach(fpWALBeforeSync) }
func failpointWALAfterSync()        { reach(fpWALAfterSync) }
func failpointWALBeforeRename()     { reach(fpWALBeforeRename) }
func failpointWALAfterRename()      { reach(fpWALAfterRename) }

//go:build !failpoints

package raftlog

// Without the build tag a failpoint is an empty function, which the compiler removes.

func failpointRaftBeforeSave()      {}
func failpointRaftAfterSave()       {}
func failpointRaftBeforeSaveSnap()  {}
func failpointRaftAfterSaveSnap()   {}
func failpointRaftAfterWALRelease() {}
func failpointWALBeforeSync()       {}
func failpointWALAfterSync()        {}
func failpointWALBeforeRename()     {}
func failpointWALAfterRename()      {}

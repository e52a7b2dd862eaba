//go:build failpoints

package storage

import "go.etcd.io/gofail/runtime"

// The names are etcd's for its commit to the disk, which here is a flush; storeFlushDue is ours.
var (
	fpBeforeCommit  = runtime.NewFailpoint("beforeCommit")
	fpAfterCommit   = runtime.NewFailpoint("afterCommit")
	fpStoreFlushDue = runtime.NewFailpoint("storeFlushDue")
)

// reach lets the terms of a failpoint act: panic, sleep or nothing. What a term returns has no meaning here.
func reach(fp *runtime.Failpoint) { _, _ = fp.Acquire() }

func failpointBeforeCommit() { reach(fpBeforeCommit) }
func failpointAfterCommit()  { reach(fpAfterCommit) }

// failpointStoreFlushDue tells whether any term is set that returns something: every look at the flush rule then finds one due.
func failpointStoreFlushDue() bool {
	_, err := fpStoreFlushDue.Acquire()
	return err == nil
}

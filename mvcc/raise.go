package mvcc

import (
	"fmt"

	"holdfast/kv"
	"holdfast/storage"
)

// Raise puts into batch that the store is at revision to, with everything before compacted: its keys stay, what comes next gets
// revisions that nobody has seen, and who asks for older ones is told to begin anew. It is for stores that are put to a new use;
// nothing is published, so the store is to be opened again once batch is committed.
func (s *Store) Raise(batch *storage.Batch, to kv.Revision) error {
	now := *s.published.Load()
	if to < now.revision {
		return fmt.Errorf("raise the revision: it is %s already, which is above %s", now.revision, to)
	}
	now.revision, now.compacted = to, to
	batch.Set(stateKey, now.encode())
	return nil
}

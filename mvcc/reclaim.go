package mvcc

import (
	"context"
	"fmt"
)

// reclaimMin is how many removed bytes are left to the database's own housekeeping, which begins with what has many
// deletions in one place and may never come to the rest.
const reclaimMin = 64 << 20

// Reclaim gives the space of removed changes back to the file system if they are more than half of what the store
// takes, and does nothing otherwise. It is for one goroutine, once CompactStep has nothing left to do; it takes as long as
// reading and writing what is left, and nobody waits for it.
func (s *Store) Reclaim(ctx context.Context) error {
	dropped, reclaimed := s.dropped.Load(), s.reclaimed.Load()
	garbage := dropped - reclaimed
	stats, err := s.st.Stats()
	if err != nil {
		return err
	}
	if garbage < max(reclaimMin, stats.TableBytes/2) {
		return nil
	}
	// What was removed lies in memtables first, and does not meet what it removes before a flush.
	if err := s.st.Flush(); err != nil {
		return fmt.Errorf("reclaim space: %w", err)
	}
	if err := s.st.Compact(ctx); err != nil {
		return fmt.Errorf("reclaim space: %w", err)
	}
	s.reclaimed.CompareAndSwap(reclaimed, dropped) // unless the store was replaced meanwhile
	return nil
}

package mvcc

// Replace puts the key space of next, a later state of the same history in a database of its own, in the place of the
// present one; next must not be used any more. It is called by the goroutine of the writer, outside of a run.
//
// Readers share no lock with it. One may look at the published state of before and open its iterator on the database
// of after, or the other way round, and both show the same at any revision that neither has compacted. So what
// next has compacted is published first, then the databases change places, then the rest is published.
func (s *Store) Replace(next *Store) {
	s.compactor.step.Lock()
	defer s.compactor.step.Unlock()
	after := next.published.Load()
	between := *s.published.Load()
	between.compacted = max(between.compacted, after.compacted)
	s.published.Store(&between)
	s.st.Replace(next.st)
	s.cache.purge(after.revision)
	s.tables = 0
	s.recent.start(after.revision, after.census.Keys())
	s.past.Forget()
	s.compactor.follow(&next.compactor)
	s.dropped.Store(next.dropped.Load())
	s.reclaimed.Store(next.reclaimed.Load())
	s.hashes.forget()
	s.published.Store(after)
}

// follow goes on where next, which is not in use yet, would. The caller holds c.step.
func (c *compactor) follow(next *compactor) {
	c.progress = next.progress
	c.mu.Lock()
	c.scheduled, c.hash, c.hashed = next.scheduled, nil, nil
	c.mu.Unlock()
	c.wake(next.finished)
}

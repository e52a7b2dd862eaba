package storage

// Cached is how many bytes the cache of blocks holds.
func (s *Store) Cached() int64 {
	g, err := s.enter()
	if err != nil {
		return 0
	}
	defer g.release()
	return g.cache.Size()
}

// Steady keeps the cache of blocks from growing beyond so many bytes until release is called; an eighth of its size it may always have. What is read
// meanwhile takes the place of what was used least: for who reads much, will not come back, and is not alone. See Spare.
func (s *Store) Steady(most int64) (release func(), err error) {
	g, err := s.enter()
	if err != nil {
		return nil, err
	}
	size := orDefault(g.cfg.CacheBytes, CacheBytesDefault)
	give := g.cache.Reserve(int(max(0, size-max(most, size/spareShare))))
	return func() {
		give()
		g.release()
	}, nil
}

// spareShare is the part of the cache that is left to who reads all.
const spareShare = 8

package storage

import (
	"context"
	"fmt"
)

// SizeMin is the size of an empty store as reported: that of etcd's empty database. etcd's tools divide by the size.
const SizeMin = 20480

// Size is the space the store takes, at least SizeMin: live tables, and what has been committed since the last flush.
// The memory that Pebble has set aside for memtables says nothing of the data in it.
func (s *Store) Size() int64 {
	g, err := s.enter()
	if err != nil {
		return SizeMin
	}
	defer g.release()
	total := g.db.Metrics().Total()
	g.flush.mu.Lock()
	defer g.flush.mu.Unlock()
	return max(SizeMin, total.TablesSize+g.flush.dirty)
}

// Behind tells how far flushes or merges of tables lag behind, as a share of what makes the store congested: with 1 writers should stop, long before
// Pebble would stop them, so that the applier never waits inside a commit. It costs some ten microseconds.
func (s *Store) Behind() (share float64) {
	g, err := s.enter()
	if err != nil {
		return 0
	}
	defer g.release()
	m := g.db.Metrics()
	memTables := float64(m.MemTable.Size) / float64(memTablesCongested*orDefault(g.cfg.MemTableBytes, MemTableBytesDefault))
	return max(memTables, float64(m.Levels[0].Sublevels)/SublevelsCongested)
}

// Sublevels is how deep level 0 is: how far merges of tables are behind. It costs some ten microseconds.
func (s *Store) Sublevels() int {
	g, err := s.enter()
	if err != nil {
		return 0
	}
	defer g.release()
	return int(g.db.Metrics().Levels[0].Sublevels)
}

// Stats are counters and sizes of the database.
type Stats struct {
	TableBytes, MemTableBytes int64
	Tables, Sublevels         int   // Sublevels of level 0: the first part of what a read may have to look at
	ReadAmp                   int   // tables and memtables that a read of one key may have to look at
	Flushes, Compactions      int64 // since Open
	CompactionDebtBytes       int64
	CompactedBytes            int64 // written by flushes and compactions since Open
	CacheBytes                int64
	CacheHits, CacheMisses    int64
	// Misuses counts rows that a flush or compaction found not to have been written and removed exactly once, as
	// SingleDelete demands: anything but 0 is our mistake.
	Misuses int64
	// Levels are the tables by level; what is flushed comes to the first, and moves down as it is compacted.
	Levels [7]LevelStats
}

// LevelStats are the tables of one level.
type LevelStats struct {
	Tables, Bytes int64
}

// Stats reads all counters; it costs some ten microseconds.
func (s *Store) Stats() (Stats, error) {
	g, err := s.enter()
	if err != nil {
		return Stats{}, err
	}
	defer g.release()
	m := g.db.Metrics()
	total := m.Total()
	var levels [7]LevelStats
	for i := range levels {
		levels[i] = LevelStats{m.Levels[i].TablesCount, m.Levels[i].TablesSize}
	}
	return Stats{
		TableBytes:          total.TablesSize,
		MemTableBytes:       int64(m.MemTable.Size),
		Tables:              int(total.TablesCount),
		Sublevels:           int(m.Levels[0].Sublevels),
		ReadAmp:             m.ReadAmp(),
		Flushes:             m.Flush.Count,
		Compactions:         m.Compact.Count,
		CompactionDebtBytes: int64(m.Compact.EstimatedDebt),
		CompactedBytes:      int64(total.TableBytesFlushed + total.TableBytesCompacted),
		CacheBytes:          m.BlockCache.Size,
		CacheHits:           m.BlockCache.Hits,
		CacheMisses:         m.BlockCache.Misses,
		Misuses:             g.misuses.Load(),
		Levels:              levels,
	}, nil
}

// Compact rewrites all tables so that deleted rows give their space back, and waits until that is done. Readers and
// writers go on meanwhile. There is nothing left to do once the database has been replaced.
func (s *Store) Compact(ctx context.Context) error {
	g, err := s.enter()
	if err != nil {
		return err
	}
	defer g.release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	if err := g.db.Compact(ctx, TableMeta.Key(nil), Table(0xff).Key(nil), false); err != nil && !g.retired.Load() {
		return fmt.Errorf("compact tables: %w", err)
	}
	return nil
}

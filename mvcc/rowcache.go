package mvcc

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"holdfast/kv"
)

// rowCache holds the newest rows of hot keys, for readers and the writer alike. A row is valid from its mod revision
// on: a reader at revision R may use it if mod <= R, because a newer version at or below R would have replaced it
// before R was published.
//
// A reader that read a row at revision R may only put it in while no change newer than R has reached the shard, since
// that change may have been to this very key.
type rowCache struct {
	seed   maphash.Seed
	shards [cacheShards]cacheShard
}

// cacheShards keeps readers of different keys apart; a power of two.
const cacheShards = 64

// entryOverhead is what a row costs in the cache beyond its bytes: map slot, entry and place in the ring.
const entryOverhead = 160

type cacheShard struct {
	mu      sync.RWMutex // guards the fields below
	rows    map[string]*cacheEntry
	ring    []*cacheEntry // in the order of the clock hand
	hand    int
	bytes   int64
	max     int64
	changed kv.Revision // the newest change that reached this shard
	door    doorkeeper
}

// doorkeeper remembers which keys were missed lately, by parts of their hashes. Each has one place, where it replaces the one before: so
// it knows of a key for about as many misses as it has places.
type doorkeeper [doorPlaces]uint16

// doorPlaces of all shards are some more than the rows of 256 B that a cache of RowCacheBytesDefault holds, and take 128 KB.
const doorPlaces = 1024

// again notes a miss of the key with this hash, and tells whether there was one before. It may be wrong.
func (d *doorkeeper) again(hash uint64) bool {
	place, mark := &d[hash/cacheShards%doorPlaces], uint16(hash>>48)|1 // a free place holds 0
	if *place == mark {
		return true
	}
	*place = mark
	return false
}

type cacheEntry struct {
	key  string
	rev  kv.Rev
	row  []byte
	used atomic.Bool // since the hand last passed
}

// newRowCache makes a cache of at most maxBytes; with less than 0 it stays empty.
func newRowCache(maxBytes int64) *rowCache {
	c := &rowCache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].rows = map[string]*cacheEntry{}
		c.shards[i].max = maxBytes / cacheShards
	}
	return c
}

// size counts the rows and their bytes.
func (c *rowCache) size() (rows int, bytes int64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		rows, bytes = rows+len(s.rows), bytes+s.bytes
		s.mu.RUnlock()
	}
	return rows, bytes
}

// hash is what get and fill ask for beside a key, so that one that misses is hashed once.
func (c *rowCache) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) }

func (c *rowCache) shard(hash uint64) *cacheShard { return &c.shards[hash%cacheShards] }

// get returns the row of key as of revision at and when it was written, or nil if the cache does not know it.
func (c *rowCache) get(hash uint64, key []byte, at kv.Revision) ([]byte, kv.Rev) {
	s := c.shard(hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.rows[string(key)]
	if e == nil || e.rev.Main > at {
		return nil, kv.Rev{}
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.row, e.rev
}

// fill is told of a row that was read at revision at, and puts it in at the second time. The cache keeps row.
func (c *rowCache) fill(hash uint64, key []byte, rev kv.Rev, row []byte, at kv.Revision) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.door.again(hash) || s.changed > at || s.rows[string(key)] != nil {
		return
	}
	s.add(&cacheEntry{key: string(key), rev: rev, row: row})
}

// change tells that row is the newest of key from rev on, nil that the key is gone. A key that is not in the
// cache stays out unless admit is set. It is called before that revision is published.
func (c *rowCache) change(key []byte, rev kv.Rev, row []byte, admit bool) {
	s := c.shard(c.hash(key))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = max(s.changed, rev.Main)
	e := s.rows[string(key)]
	switch {
	case e != nil && row == nil:
		s.drop(e)
	case e != nil:
		// Readers hold rows, not entries, so the entry may be changed in place.
		s.bytes += int64(len(row) - len(e.row))
		e.rev, e.row = rev, row
		s.evict()
	case row != nil && admit:
		s.add(&cacheEntry{key: string(key), rev: rev, row: row})
	}
}

// purge empties the cache because of a change at revision mod whose keys are not listed.
func (c *rowCache) purge(mod kv.Revision) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.rows, s.ring, s.hand, s.bytes = map[string]*cacheEntry{}, nil, 0, 0
		s.changed = max(s.changed, mod)
		s.mu.Unlock()
	}
}

func (e *cacheEntry) bytes() int64 { return int64(len(e.key)+len(e.row)) + entryOverhead }

func (s *cacheShard) add(e *cacheEntry) {
	if e.bytes() > s.max {
		return
	}
	s.rows[e.key] = e
	s.ring = append(s.ring, e)
	s.bytes += e.bytes()
	s.evict()
}

// evict moves the clock hand until the shard is within its bound.
func (s *cacheShard) evict() {
	for s.bytes > s.max && len(s.ring) > 0 {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		if s.rows[e.key] == e && e.used.Swap(false) {
			s.hand++
			continue
		}
		s.removeAt(s.hand)
		s.hand++ // over the entry that took the place: it is the newest, and has had no time to be used
		if s.rows[e.key] == e {
			delete(s.rows, e.key)
			s.bytes -= e.bytes()
		}
	}
}

// drop takes e out of the map; its place in the ring is given up when the hand comes by.
func (s *cacheShard) drop(e *cacheEntry) {
	delete(s.rows, e.key)
	s.bytes -= e.bytes()
	if len(s.ring) > 2*len(s.rows)+ringSlack {
		live := s.ring[:0]
		for _, e := range s.ring {
			if s.rows[e.key] == e {
				live = append(live, e)
			}
		}
		clear(s.ring[len(live):])
		s.ring, s.hand = live, 0
	}
}

// ringSlack is how many dead places a ring may have before a small shard cleans up.
const ringSlack = 64

func (s *cacheShard) removeAt(i int) {
	last := len(s.ring) - 1
	s.ring[i] = s.ring[last]
	s.ring[last] = nil
	s.ring = s.ring[:last]
}

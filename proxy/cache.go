package proxy

import (
	"container/list"
	"encoding/binary"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// The bounds of the cache. Beyond them the entry that was not used for the longest time goes.
const (
	cacheEntries    = 2048 // as in etcd
	cacheBytes      = 64 << 20
	cacheEntryBytes = 1 << 20 // larger answers are not kept
	// cacheAge is how old an answer may be. What is written past this proxy does not reach its cache, and a serializable range
	// may be old, but not for ever.
	cacheAge = time.Minute
	// writesRemembered is how many of the last writes are known one by one, see rangeCache.add.
	writesRemembered = 1024
)

// rangeCache keeps answers to ranges, for clients that content themselves with what was true a while ago (serializable). An
// answer goes when a write of one of its keys passes through this proxy.
type rangeCache struct {
	now func() time.Time

	mu        sync.Mutex // guards the fields below
	entries   map[string]*entry
	used      *list.List                     // of *entry, the one used last in front
	points    map[string]map[*entry]struct{} // those of one key at the present, by key
	ranges    map[*entry]struct{}            // those of several keys at the present
	bytes     int
	writes    [writesRemembered]write // a ring
	write     int                     // place of the next one
	forgotten int64                   // the highest revision of a write that is not in the ring any more
	compacted int64

	hits, misses uint64
}

type entry struct {
	id     string
	keys   keys
	past   bool // at a revision that was named: no write changes it
	answer *pb.RangeResponse
	size   int
	at     time.Time
	use    *list.Element
}

// write is one that passed through: what it changed, and when.
type write struct {
	keys
	revision int64
}

// keys are one key, or those from key on that are before end; an end of one zero byte is none.
type keys struct{ key, end string }

func (k keys) endless() bool { return k.end == "\x00" }

// overlaps tells whether there may be a key that both hold.
func (k keys) overlaps(other keys) bool { return k.reaches(other.key) && other.reaches(k.key) }

// reaches tells whether k ends behind a key.
func (k keys) reaches(key string) bool {
	switch {
	case k.end == "":
		return key <= k.key
	case k.endless():
		return true
	}
	return key < k.end
}

func newRangeCache(now func() time.Time) *rangeCache {
	return &rangeCache{
		now: now, entries: map[string]*entry{}, used: list.New(),
		points: map[string]map[*entry]struct{}{}, ranges: map[*entry]struct{}{},
	}
}

// rangeID tells ranges apart by all that makes a difference but Serializable.
func rangeID(q *pb.RangeRequest) string {
	b := make([]byte, 0, 64+len(q.Key)+len(q.RangeEnd))
	for _, text := range [][]byte{q.Key, q.RangeEnd} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	for _, n := range []int64{
		q.Limit, max(q.Revision, 0), int64(q.SortOrder), int64(q.SortTarget),
		q.MinModRevision, q.MaxModRevision, q.MinCreateRevision, q.MaxCreateRevision,
	} {
		b = binary.AppendVarint(b, n)
	}
	for _, flag := range []bool{q.KeysOnly, q.CountOnly} {
		if flag {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return string(b)
}

// get is what is known of a range; nil is nothing.
func (c *rangeCache) get(q *pb.RangeRequest) (*pb.RangeResponse, error) {
	id := rangeID(q)
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.Revision > 0 && q.Revision < c.compacted {
		c.hits++
		return nil, rpctypes.ErrGRPCCompacted
	}
	e := c.entries[id]
	if e != nil && c.now().Sub(e.at) >= cacheAge {
		c.drop(e)
		e = nil
	}
	if e == nil {
		c.misses++
		return nil, nil
	}
	c.hits++
	c.used.MoveToFront(e.use)
	return e.answer, nil
}

// add keeps an answer, which must not change any more. An answer from before a write that has passed through meanwhile is not
// kept: it was on its way, or comes from a member that lags behind.
func (c *rangeCache) add(q *pb.RangeRequest, answer *pb.RangeResponse) {
	size := proto.Size(answer)
	if size > cacheEntryBytes || answer.Header == nil {
		return
	}
	e := &entry{
		id: rangeID(q), keys: keys{string(q.Key), string(q.RangeEnd)}, past: q.Revision > 0, answer: answer, size: size, at: c.now(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.past && q.Revision < c.compacted || !e.past && c.overtaken(e) {
		return
	}
	if before := c.entries[e.id]; before != nil {
		if before.answer.Header.Revision > answer.Header.Revision {
			return
		}
		c.drop(before)
	}
	c.entries[e.id], e.use = e, c.used.PushFront(e)
	c.bytes += e.size
	switch {
	case e.past:
	case e.keys.end == "":
		if c.points[e.keys.key] == nil {
			c.points[e.keys.key] = map[*entry]struct{}{}
		}
		c.points[e.keys.key][e] = struct{}{}
	default:
		c.ranges[e] = struct{}{}
	}
	for len(c.entries) > cacheEntries || c.bytes > cacheBytes {
		c.drop(c.used.Back().Value.(*entry))
	}
}

// overtaken tells whether an answer lacks a write. Caller holds mu.
func (c *rangeCache) overtaken(e *entry) bool {
	at := e.answer.Header.Revision
	if at < c.forgotten {
		return true
	}
	for i := range c.writes {
		if w := &c.writes[i]; w.revision > at && w.overlaps(e.keys) {
			return true
		}
	}
	return false
}

// drop takes e out. Caller holds mu.
func (c *rangeCache) drop(e *entry) {
	delete(c.entries, e.id)
	c.used.Remove(e.use)
	c.bytes -= e.size
	delete(c.ranges, e)
	if same := c.points[e.keys.key]; same != nil {
		delete(same, e)
		if len(same) == 0 {
			delete(c.points, e.keys.key)
		}
	}
}

// wrote forgets what a write at a revision has changed; 0 is a write of which nobody knows whether it happened.
func (c *rangeCache) wrote(k keys, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision > 0 {
		place := &c.writes[c.write%writesRemembered]
		c.forgotten = max(c.forgotten, place.revision)
		*place = write{k, revision}
		c.write++
	}
	if k.end == "" {
		for e := range c.points[k.key] {
			c.drop(e)
		}
	} else {
		for _, same := range c.points {
			for e := range same {
				if k.overlaps(e.keys) {
					c.drop(e)
				}
			}
		}
	}
	for e := range c.ranges {
		if k.overlaps(e.keys) {
			c.drop(e)
		}
	}
}

// compact forgets nothing, but refuses what is below a revision from now on.
func (c *rangeCache) compact(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compacted = max(c.compacted, revision)
}

// cacheStats is what the cache has done.
type cacheStats struct {
	entries, bytes int
	hits, misses   uint64
}

func (c *rangeCache) stats() cacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cacheStats{len(c.entries), c.bytes, c.hits, c.misses}
}

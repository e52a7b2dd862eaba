package mvcc

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"holdfast/kv"
	"holdfast/storage"
)

// Hash is etcd's number for the history up to a revision. Members that hold the same data give the same Sum for the
// same Revision and Compact.
type Hash struct {
	Sum      uint32
	Revision kv.Revision
	// Compact is the compacted revision the sum was taken at.
	Compact kv.Revision
}

// hashSeed stands in front of all rows: the name of etcd's bucket.
const hashSeed = "key"

// HashKV returns etcd's hash of all changes up to rev, 0 meaning the published revision.
//
// What counts, with C the compacted revision: every change above C; of those up to C the ones a compaction at rev
// would keep, which are the newest of keys that live at rev. If no key lives at rev, all that the compaction at C leaves
// count, but for tombstones. It need not be complete: how far it is differs between members, and the hash must not.
func (s *Store) HashKV(ctx context.Context, rev kv.Revision) (Hash, error) {
	if h, ok := s.hashes.get(rev); ok {
		return h, nil
	}
	return s.hash(ctx, rev)
}

// HashCurrent returns the hash of everything there is, never what a compaction remembers: HashKV does for the revision of a
// compaction, and after a compaction at 0 for 0.
func (s *Store) HashCurrent(ctx context.Context) (Hash, error) { return s.hash(ctx, 0) }

// hash computes what HashKV returns.
func (s *Store) hash(ctx context.Context, rev kv.Revision) (Hash, error) {
	for {
		now := s.published.Load()
		switch {
		case rev > 0 && rev < now.compacted:
			return Hash{}, ErrCompacted
		case rev > now.revision:
			return Hash{}, ErrFutureRevision
		}
		at := rev
		if at == 0 {
			at = now.revision
		}
		if now.revision < now.compacted {
			continue // Replace is under way
		}
		h, err := s.hashAt(ctx, now, at)
		if err == errMoved {
			continue
		}
		return h, err
	}
}

// errMoved says that another compaction was published before the view of the store was opened.
var errMoved = errors.New("compacted meanwhile")

func (s *Store) hashAt(ctx context.Context, now *state, rev kv.Revision) (Hash, error) {
	reader, err := s.st.NewReader()
	if err != nil {
		return Hash{}, err
	}
	defer reader.Close()
	if s.Compacted() != now.compacted {
		return Hash{}, errMoved
	}
	p, err := readProgress(reader)
	if err != nil {
		return Hash{}, err
	}
	// Nothing at or below the last complete compaction is superseded by anything at or below it.
	job := &hashJob{compact: now.compacted, rev: rev, next: kv.Rev{Main: p.finished + 1}}
	for ready := false; !ready; {
		if ready, err = job.step(reader, hashRowsPerLook); err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return Hash{}, fmt.Errorf("hash at revision %s: %w", rev, err)
		}
	}
	return job.result(), nil
}

// hashRowsPerLook is how many rows HashKV reads between two looks at its context.
const hashRowsPerLook = 10000

// rows is where a hash is read: the store, or one view of it.
type rows interface {
	Scan(t storage.Table, lo, hi []byte) (*storage.Iter, error)
}

// hashJob computes one hash in steps, from the records alone. It first goes over the changes above the last complete
// compaction, which tell what they superseded, then over those up to compact, some of which were.
type hashJob struct {
	compact, rev kv.Revision
	// tombstones says that a tombstone at rev counts as a key that lives: so it is for the hash of a compaction.
	tombstones bool

	below bool   // the second part has begun
	next  kv.Rev // where to go on

	above      concat // the changes above compact
	aboveBytes uint64
	superseded []kv.Rev // those up to compact that a change up to rev superseded
	removed    []kv.Rev // those of superseded that a change up to compact did: the compaction there removes them
	kept, all  concat   // those up to compact: the ones a compaction at rev keeps, and all that count without any
	live       int64
}

// newCompactionHash is the hash that is remembered for a compaction at rev, the one before having been at compact.
func newCompactionHash(compact, rev kv.Revision) *hashJob {
	return &hashJob{compact: compact, rev: rev, tombstones: true, next: kv.Rev{Main: compact + 1}}
}

// step looks at up to maxRows records and tells whether the hash is ready.
func (h *hashJob) step(from rows, maxRows int) (ready bool, err error) {
	to := h.rev
	if h.below {
		to = min(h.compact, h.rev)
	}
	if to >= h.next.Main {
		end, err := h.read(from, to, maxRows)
		if err != nil || !end {
			return false, err
		}
	}
	if h.below {
		return true, nil
	}
	h.below, h.next = true, kv.Rev{}
	slices.SortFunc(h.superseded, compareRevs)
	slices.SortFunc(h.removed, compareRevs)
	seed := crc32.Checksum([]byte(hashSeed), castagnoli)
	h.kept.sum, h.all.sum = seed, seed
	return false, nil
}

func (h *hashJob) read(from rows, to kv.Revision, maxRows int) (end bool, err error) {
	it, err := from.Scan(storage.TableRevisions, appendRevBody(nil, h.next), appendRevBody(nil, kv.Rev{Main: to + 1}))
	if err != nil {
		return false, err
	}
	for n := 0; it.Next(); n++ {
		rev, rec, err := readRecord(it)
		if err != nil {
			return false, closeWith(it, err)
		}
		if n == maxRows {
			h.next = rev
			return false, it.Close()
		}
		if h.below {
			h.addBelow(rev, &rec)
		} else {
			h.addAbove(rev, &rec)
		}
	}
	return true, closeWith(it, it.Err())
}

func (h *hashJob) addAbove(rev kv.Rev, rec *record) {
	if rec.hasOld {
		if rec.old.Main <= h.compact {
			h.superseded = append(h.superseded, rec.old)
		} else {
			h.live--
		}
	}
	if rev.Main <= h.compact {
		if rec.hasOld {
			h.removed = append(h.removed, rec.old)
		}
		return // its own turn comes in the second part
	}
	h.above.append(rec.sum, int(rec.bytes()))
	h.aboveBytes += uint64(rec.bytes())
	if rec.kind != kindDelete || (h.tombstones && rev.Main == h.rev) {
		h.live++
	}
}

func (h *hashJob) addBelow(rev kv.Rev, rec *record) {
	superseded, removed := next(&h.superseded, rev), next(&h.removed, rev)
	if rec.kind == kindDelete {
		return
	}
	if !superseded {
		h.live++
		h.kept.append(rec.sum, int(rec.bytes()))
	}
	if !removed {
		h.all.append(rec.sum, int(rec.bytes()))
	}
}

// next drops what lies before rev from a sorted list and tells whether rev is in it.
func next(list *[]kv.Rev, rev kv.Rev) bool {
	for len(*list) > 0 && (*list)[0].Less(rev) {
		*list = (*list)[1:]
	}
	return len(*list) > 0 && (*list)[0] == rev
}

func (h *hashJob) result() Hash {
	sum := h.kept.sum
	if h.live == 0 {
		sum = h.all.sum
	}
	return Hash{Sum: join(sum, h.above.sum, h.aboveBytes), Revision: h.rev, Compact: h.compact}
}

func compareRevs(a, b kv.Rev) int {
	switch {
	case a.Less(b):
		return -1
	case b.Less(a):
		return 1
	}
	return 0
}

// hashCache remembers the hashes of the last compactions until the member restarts, as etcd does: leaders compare them
// after the compaction has made computing them again impossible.
type hashCache struct {
	mu     sync.Mutex // guards hashes
	hashes []Hash     // oldest revision first
}

// hashesKept is etcd's number.
const hashesKept = 10

func (c *hashCache) add(h Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hashes = append(c.hashes, h)
	if n := len(c.hashes); n > hashesKept {
		c.hashes = slices.Clone(c.hashes[n-hashesKept:])
	}
}

func (c *hashCache) get(rev kv.Revision) (Hash, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hashes {
		if h.Revision == rev {
			return h, true
		}
	}
	return Hash{}, false
}

// Hashes returns the remembered hashes, oldest first: the leader compares them with those of its peers.
func (s *Store) Hashes() []Hash {
	s.hashes.mu.Lock()
	defer s.hashes.mu.Unlock()
	return slices.Clone(s.hashes.hashes)
}

// ForgetHashes empties what is remembered, and what a compaction under way would add. A member calls it when it has
// replayed its log: etcd's cache is empty after a restart, and members compare what they remember.
func (s *Store) ForgetHashes() {
	c := &s.compactor
	c.mu.Lock()
	c.hash, c.hashed = nil, nil
	c.mu.Unlock()
	s.hashes.forget()
}

func (c *hashCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hashes = nil
}

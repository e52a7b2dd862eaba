// Package mvcc keeps the keys of the store with their history: put, delete, range at a revision, compaction, hash.
//
// Reads come from any goroutine and see the published revision; they share no lock with the writer. Writes come from
// one goroutine as runs of commands: a Run fills one storage batch, an exact overlay answers for what the open batch
// changed, and Publish makes revision, counts and cached rows visible in one step once the batch is committed.
//
//	Shape    table "versions":  key @ revision -> encoded KeyValue; empty for a tombstone
//	         table "revisions": main (8, big endian) · sub (4) -> what that change did (record.go)
//	         table "meta":      "mvcc" -> state of the key space, "compaction" -> progress of the physical compaction
//	Units    revisions count changes of the store, from 1 (empty); sizes in bytes of etcd's encoding
//	Errors   ErrCompacted, ErrFutureRevision; a failure of the disk is wrapped
//	Source   etcd v3 API, service KV; etcd 3.7 for what HashKV sums and what a compaction keeps
//
// It reads no clock, starts no goroutine and draws no random number. DESIGN.md of this folder has the story.
package mvcc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"holdfast/kv"
	"holdfast/mvcc/census"
	"holdfast/storage"
)

// ErrCompacted says that the revision asked for lies below the compacted one: its state is gone, or soon will be.
var ErrCompacted = errors.New("mvcc: required revision has been compacted")

// ErrFutureRevision says that the revision asked for has not been reached.
var ErrFutureRevision = errors.New("mvcc: required revision is a future revision")

// NeverCompacted is the compacted revision of a store that was never compacted; a first compaction may be at 0.
const NeverCompacted kv.Revision = -1

// firstRevision is that of an empty store.
const firstRevision kv.Revision = 1

// Config bounds what a Store keeps in memory.
type Config struct {
	// RowCacheBytes bounds the cache of newest rows; 0 means RowCacheBytesDefault, less than 0 none.
	RowCacheBytes int64
	// RecentBytes bounds what is remembered of keys, so that writing them again takes no look into the store; 0 means RecentBytesDefault,
	// less than 0 nothing. All keys are known where they take up to half of it; a quarter at most is for the sieve of more keys.
	RecentBytes int64
}

// RowCacheBytesDefault holds the newest rows of some ten thousand hot keys.
const RowCacheBytesDefault = 16 << 20

// RecentBytesDefault is enough to know a million keys of 25 bytes, or half of them of 70, and which of 16 million there are. It is taken only for
// keys that there are.
const RecentBytesDefault = 128 << 20

// Store is the key space in one storage.Store. Reads may come from any goroutine; Begin and what it returns belong to
// one goroutine, CompactStep and RecallStep to others.
type Store struct {
	st    *storage.Store
	cache *rowCache
	// recent belongs to the writer, and so does tables: a revision that is in the tables of the database as a whole, 0 when not known.
	recent *recent
	tables kv.Revision
	recall recall
	// published is what readers see; only Run.Publish replaces it.
	published atomic.Pointer[state]
	compactor compactor
	totals    totals
	hashes    hashCache
	past      census.Past
	// dropped counts the bytes of revisions that compactions have removed: the compactor's half of SizeInUse.
	dropped atomic.Int64
	// reclaimed is what dropped was when the space was last given back.
	reclaimed atomic.Int64
}

// state is everything that changes with a revision; it is never modified.
type state struct {
	revision kv.Revision
	// compacted is the revision below which history can no longer be read. Invariant: compacted <= revision, but for
	// the moment in which Replace puts another database in the place of the present one.
	compacted kv.Revision
	written   int64 // bytes of all revisions ever written
	census    *census.Version
}

// The state is one row, revision (8) · compacted (8) · written (8), each big endian, and the rows of the census.
var stateKey = storage.TableMeta.Key([]byte("mvcc"))

const stateLen = 24

func (s *state) encode() []byte {
	b := make([]byte, 0, stateLen)
	for _, v := range []int64{int64(s.revision), int64(s.compacted), s.written} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func decodeState(b []byte) (*state, error) {
	if len(b) != stateLen {
		return nil, fmt.Errorf("state row of %d bytes, not %d", len(b), stateLen)
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) }
	return &state{revision: kv.Revision(at(0)), compacted: kv.Revision(at(1)), written: at(2)}, nil
}

// Open reads the state of the key space in st; an empty st is a store at revision 1.
func Open(st *storage.Store, cfg Config) (*Store, error) {
	if cfg.RowCacheBytes == 0 {
		cfg.RowCacheBytes = RowCacheBytesDefault
	}
	if cfg.RecentBytes == 0 {
		cfg.RecentBytes = RecentBytesDefault
	}
	s := &Store{st: st, cache: newRowCache(cfg.RowCacheBytes)}
	now := &state{revision: firstRevision, compacted: NeverCompacted}
	row, ok, err := st.Get(stateKey)
	if err != nil {
		return nil, fmt.Errorf("open mvcc: %w", err)
	}
	if ok {
		if now, err = decodeState(row); err != nil {
			return nil, fmt.Errorf("open mvcc: %w", err)
		}
	}
	if now.census, err = census.Load(st); err != nil {
		return nil, fmt.Errorf("open mvcc: %w", err)
	}
	s.published.Store(now)
	s.recent = newRecent(cfg.RecentBytes, now.revision, now.census.Keys())
	if err := s.compactor.open(s); err != nil {
		return nil, fmt.Errorf("open mvcc: %w", err)
	}
	s.reclaimed.Store(s.dropped.Load())
	return s, nil
}

// Revision is the published revision.
func (s *Store) Revision() kv.Revision { return s.published.Load().revision }

// Compacted is the revision below which history can not be read, NeverCompacted if there was no compaction.
func (s *Store) Compacted() kv.Revision { return s.published.Load().compacted }

// inTables tells whether the tables of the database hold all that was changed up to rev.
func (s *Store) inTables(rev kv.Revision) (bool, error) {
	if rev <= s.tables {
		return true, nil
	}
	row, ok, err := s.st.TableRow(stateKey)
	if err != nil {
		return false, err
	}
	held := &state{revision: firstRevision} // of an empty database
	if ok {
		if held, err = decodeState(row); err != nil {
			return false, err
		}
	}
	s.tables = held.revision
	return rev <= s.tables, nil
}

// Keys is the number of keys that live at the published revision.
func (s *Store) Keys() int64 { return s.published.Load().census.Keys() }

// SizeInUse is the number of bytes, in etcd's encoding, of all revisions that no compaction has removed.
func (s *Store) SizeInUse() int64 { return s.published.Load().written - s.dropped.Load() }

// newestAt is the place behind every change of revision rev.
func newestAt(rev kv.Revision) kv.Rev { return kv.Rev{Main: rev, Sub: math.MaxUint32} }

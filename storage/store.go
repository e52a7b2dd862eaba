// Package storage is the one database of a member: named tables in one Pebble store, written in atomic batches.
//
// Pebble's own log is off, because the raft log is the log: a batch becomes visible when it is committed and durable
// with a later flush. A crash takes the store back to the end of some earlier batch, never into the middle of one; the
// applied cursor travels in the batch that it describes, so the raft log can be replayed from there. Segments of the
// raft log may go only below Durable.
//
//	Shape    plain row  table (1) · body · 0x00
//	         version    table (1) · body · 0x00 · ^main (8) · ^sub (4) · 0x0d
//	         The last byte is the length of the suffix, itself included. Numbers are big endian; their complement
//	         puts the newest version of a body first.
//	Units    sizes in bytes
//	Errors   ErrClosed; a background error of Pebble is given to Config.OnFatal and to every later commit
//	Source   Pebble v2; its comparer contract (internal/base/comparer.go); CockroachDB's MVCC key encoding for the
//	         idea of a length byte at the end
//
// It starts no goroutine of its own, but for the one that closes the database and one for each write to a table, and reads no clock but Config.Now.
// DESIGN.md of this folder has the story.
package storage

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrClosed says that the store was closed. A reader that meets it holds a store that was replaced.
var ErrClosed = errors.New("storage: closed")

// Config says where the database is and what it may use.
type Config struct {
	FS  vfs.FS
	Dir string
	// CacheBytes bounds the cache of table blocks; 0 means CacheBytesDefault. Memtables come on top: see MemTableBytes.
	CacheBytes int64
	// MemTableBytes is the size at which Pebble itself flushes a memtable; 0 means MemTableBytesDefault. Two of them
	// are in memory while one is flushed.
	MemTableBytes uint64
	// TableBytes is the size of table files in the upper levels; 0 means TableBytesDefault. A compaction needs room on the
	// disk for some forty times as much, so a small disk asks for less.
	TableBytes int64
	// OpenFilesMax bounds the open table files; 0 means OpenFilesDefault.
	OpenFilesMax int
	// FlushBytes is how much is committed before FlushDue asks for a flush; 0 means FlushBytesDefault.
	FlushBytes int64
	// CompactionsMax bounds how many compactions of tables run at once; 0 means 1.
	CompactionsMax int
	// ManualCompactions keeps Pebble from starting compactions by itself: for simulations that must repeat.
	ManualCompactions bool
	// Log receives what Pebble reports; nil discards it.
	Log *slog.Logger
	// Now is the clock of the flush rule; nil means that age never makes a flush due.
	Now func() time.Time
	// Pace is called when a merge of tables begins, perhaps with locks held; step, which it returns, by that merge after every hundred rows or so. step may
	// wait, so that others go first; flushes go on meanwhile. nil: merges do not wait.
	Pace func() (step func())
	// Late tells, after each block that a flush or a merge writes, whether it is late; where it is not, it makes way to goroutines that can run. nil: it never is.
	Late func() bool
	// OnFatal is called once, from any goroutine, when a background operation failed: what was committed can no
	// longer become durable, so the member has to stop. Flushes and commits fail after it has returned, so it must not wait,
	// and not call back into the store. nil means that only they see the error.
	OnFatal func(error)

	readOnly bool // nothing is written, not even what every opening writes
}

// Defaults of Config.
const (
	// CacheBytesDefault holds the index blocks and filters of ten million keys, and a third of the blocks of a million keys of 256 B. It
	// is filled only by what is read. A block that the kernel must be asked for costs 7 µs and more of the collector's time; with this
	// much a busy member with a million keys stays below the memory that etcd takes (bench/FINDINGS.md).
	CacheBytesDefault = 96 << 20
	// MemTableBytesDefault holds more than FlushBytesDefault of payload with its overhead (measured: 1.06 times the
	// payload for values of 1 KB, 1.2 for 256 B, 1.5 for 16 B), so that the flush rule acts before Pebble does. It is allocated whole, on Go's heap, which
	// takes half as much again: two of them are a large part of what a busy member holds. What is counted in flushes follows from it (bench/FINDINGS.md).
	MemTableBytesDefault = 16 << 20
	// TableBytesDefault is large enough that files are few, and small enough that a compaction is over within a second.
	TableBytesDefault = 4 << 20
	// OpenFilesDefault leaves room for the sockets of a process limited to 1024 files.
	OpenFilesDefault = 500
)

// A flush makes one sublevel of level 0, so what level 0 holds is counted in them. A read looks into each, but the filters spare it most.
const (
	// SublevelsMerged begin a merge of level 0 with the level below, unless flushes are smaller than by default.
	SublevelsMerged = mergedBytes / FlushBytesDefault
	// SublevelsCongested are so many that a read of one key becomes visibly slower: see Store.Behind.
	SublevelsCongested = 5 * SublevelsMerged

	mergedBytes = 64 << 20 // half of what the level below holds, see baseTables
)

// memTablesCongested flushes that wait are congested too: 128 MB.
const memTablesCongested = 128 << 20 / MemTableBytesDefault

// Writes stop inside Pebble, which is a stall of the applier, only far beyond where Behind lets the server stop them.
const (
	memTablesStop = 2 * memTablesCongested
	sublevelsStop = 1000
)

// blockBytes is what a read of a row that is in no cache takes in and checks. With twice as much, such a read costs a fifth more and a list
// somewhat less; lists have more to spare beside etcd than gets of single keys (bench/FINDINGS.md).
const blockBytes = 8 << 10

// baseTables is how many files make the first level under level 0. Files of level 0 hold rows of all tables, so that a
// compaction out of it rewrites that whole level: twice level 0. A smaller one would be rewritten for less, and rewrite more of the next level.
const baseTables = 32

// memTablesUsual are in memory when all is well: one being filled and one being flushed.
const memTablesUsual = 2

// format is the newest on-disk format of Pebble v2.1, named here so that an update of Pebble does not change it
// unnoticed: a store in a newer format can not be opened by the version before.
const format = pebble.FormatValueSeparation

// Store is one open database, in whose place another can be put. All methods may be called from any goroutine.
type Store struct {
	gen atomic.Pointer[generation]

	mu  sync.Mutex    // guards old
	old []*generation // replaced, and perhaps not closed yet
}

// Open opens the database in cfg.Dir, making an empty one if there is none.
func Open(cfg Config) (*Store, error) {
	if cfg.FS == nil || cfg.Dir == "" {
		return nil, errors.New("storage: Config needs FS and Dir")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g, err := openGeneration(cfg)
	if err != nil {
		return nil, err
	}
	s := new(Store)
	s.gen.Store(g)
	return s, nil
}

// enter counts a reader or writer in. It fails once Close was called.
func (s *Store) enter() (*generation, error) {
	for {
		g := s.gen.Load()
		if g.acquire() == nil {
			return g, nil
		}
		if s.gen.Load() == g {
			return nil, ErrClosed
		}
	}
}

// Replace puts the database of next in the place of the present one; next must not be used any more. Who reads the old one
// goes on to do so; when the last of them has ended it is closed and its directory removed. A batch begun before can
// not be committed any more.
func (s *Store) Replace(next *Store) {
	old := s.gen.Swap(next.gen.Load())
	s.mu.Lock()
	s.old = slices.DeleteFunc(s.old, (*generation).isClosed)
	s.old = append(s.old, old)
	s.mu.Unlock()
	old.retire()
}

// Dir is where the present database is.
func (s *Store) Dir() string { return s.gen.Load().cfg.Dir }

// Close ends the store: new readers get ErrClosed, the database closes when the last open reader has, and Close
// waits for that. It does not flush; a graceful stop calls Flush first. A store that failed returns its error; where
// Pebble stopped with its locks held the database stays open, because closing it would wait for ever.
func (s *Store) Close() error {
	err := s.gen.Load().close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.old {
		g.wait()
	}
	return err
}

// Err returns the background error that ended the store, nil while it is sound.
func (s *Store) Err() error { return s.gen.Load().err() }

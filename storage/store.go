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
// It starts no goroutine of its own, but for the one that closes the database, and reads no clock but Config.Now.
// DESIGN.md of this folder has the story.
package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
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
	// disk for some twenty times as much, so a small disk asks for less.
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
	// OnFatal is called once, from any goroutine, when a background operation failed: what was committed can no
	// longer become durable, so the member has to stop. It must not call back into the store. nil means that only
	// later commits see the error.
	OnFatal func(error)
}

// Defaults of Config.
const (
	// CacheBytesDefault is enough for the index blocks and filters of ten million keys.
	CacheBytesDefault = 64 << 20
	// MemTableBytesDefault holds more than FlushBytesDefault of payload with its overhead (measured: 1.3 to 1.5 times the
	// payload for values of 256 B), so that the flush rule acts before Pebble does.
	MemTableBytesDefault = 64 << 20
	// TableBytesDefault is large enough that files are few, and small enough that a compaction is over within a second.
	TableBytesDefault = 4 << 20
	// OpenFilesDefault leaves room for the sockets of a process limited to 1024 files.
	OpenFilesDefault = 500
)

// Writes stop inside Pebble, which is a stall of the applier, only far beyond where Congested asks the server to slow
// down: at 8 queued memtables or 1000 sublevels in level 0.
const (
	memTablesStop = 8
	sublevelsStop = 1000
)

// baseTables is how many files make the first level under level 0. Files of level 0 hold rows of all tables, so that a
// compaction out of it rewrites that whole level.
const baseTables = 16

// memTablesUsual are in memory when all is well: one being filled and one being flushed.
const memTablesUsual = 2

// format is the newest on-disk format of Pebble v2.1, named here so that an update of Pebble does not change it
// unnoticed: a store in a newer format can not be opened by the version before.
const format = pebble.FormatValueSeparation

// Store is one open database. All methods may be called from any goroutine.
type Store struct {
	cfg Config
	db  *pebble.DB
	log *slog.Logger

	// refs counts the owner and every open reader; the one who takes it to 0 closes the database.
	refs     atomic.Int64
	closing  atomic.Bool
	closed   chan struct{} // closed when the database is; closeErr is set before
	closeErr error

	failed  atomic.Pointer[error] // the first background error
	cramped atomic.Pointer[error] // of the compaction that found no room and is about to be reported
	failure chan struct{}         // closed when failed is set
	stuck   chan struct{}         // closed when Pebble stopped with its locks held
	sticks  atomic.Bool           // whoever sets it closes stuck

	flush   flushState
	misuses atomic.Int64 // see Stats.Misuses
	applied Applied      // as found at Open
}

// Open opens the database in cfg.Dir, making an empty one if there is none.
func Open(cfg Config) (*Store, error) {
	if cfg.FS == nil || cfg.Dir == "" {
		return nil, errors.New("storage: Config needs FS and Dir")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, log: cfg.Log, closed: make(chan struct{}), failure: make(chan struct{}), stuck: make(chan struct{})}
	s.refs.Store(1)
	opts := s.options()
	defer opts.Cache.Unref()
	db, err := pebble.Open(cfg.Dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open store in %s: %w", cfg.Dir, err)
	}
	s.db = db
	s.flush.stale.Store(true)
	s.applied, err = s.readApplied(nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *Store) options() *pebble.Options {
	memTable := orDefault(s.cfg.MemTableBytes, MemTableBytesDefault)
	// Pebble takes the memtables out of the cache it is given; without room for two a flush would empty the cache.
	cache := orDefault(s.cfg.CacheBytes, CacheBytesDefault) + memTablesUsual*int64(memTable)
	o := &pebble.Options{
		FS:                          manifestFS{s.cfg.FS},
		Comparer:                    comparer,
		DisableWAL:                  true,
		FormatMajorVersion:          format,
		Cache:                       pebble.NewCache(cache),
		MaxOpenFiles:                orDefault(s.cfg.OpenFilesMax, OpenFilesDefault),
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: memTablesStop,
		L0StopWritesThreshold:       sublevelsStop,
		L0CompactionThreshold:       2,
		LBaseMaxBytes:               baseTables * orDefault(s.cfg.TableBytes, TableBytesDefault),
		DisableAutomaticCompactions: s.cfg.ManualCompactions,
		DisableTableStats:           s.cfg.ManualCompactions,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, s.cfg.CompactionsMax) },
		Logger:                      pebbleLogger{s},
		EventListener:               s.listener(),
	}
	o.TargetFileSizes[0] = orDefault(s.cfg.TableBytes, TableBytesDefault)
	for i := range o.Levels {
		o.Levels[i].BlockSize = 32 << 10
		o.Levels[i].IndexBlockSize = 256 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

func orDefault[T int | int64 | uint64](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// Close ends the store: new readers get ErrClosed, the database closes when the last open reader has, and Close
// waits for that. It does not flush; a graceful stop calls Flush first. A store that failed returns its error; where
// Pebble stopped with its locks held the database stays open, because closing it would wait for ever.
func (s *Store) Close() error {
	if !s.closing.CompareAndSwap(false, true) {
		return ErrClosed
	}
	s.release()
	select {
	case <-s.closed:
		return errors.Join(s.Err(), s.closeErr)
	case <-s.stuck:
		return s.Err()
	}
}

// closeDB closes the database. Pebble can stop with its locks held at any moment until it is closed, and this would
// never return then; so it has a goroutine, which Close waits for as long as there is hope.
func (s *Store) closeDB() {
	s.closeErr = s.db.Close()
	close(s.closed)
}

// acquire counts a reader or writer in. It fails once Close was called.
func (s *Store) acquire() error {
	if s.closing.Load() {
		return ErrClosed
	}
	for {
		n := s.refs.Load()
		if n == 0 {
			return ErrClosed
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (s *Store) release() {
	switch n := s.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic(fmt.Sprintf("storage: released %d times more than acquired", -n))
	}
	go s.closeDB()
}

// Err returns the background error that ended the store, nil while it is sound.
func (s *Store) Err() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail records the first background error and reports it.
func (s *Store) fail(err error) {
	err = fmt.Errorf("store in %s: %w", s.cfg.Dir, err)
	if !s.failed.CompareAndSwap(nil, &err) {
		return
	}
	close(s.failure)
	s.log.Error("storage failed in the background", "error", err)
	if s.cfg.OnFatal != nil {
		s.cfg.OnFatal(err)
	}
}

// stick notes that the database can not be closed any more.
func (s *Store) stick() {
	if s.sticks.CompareAndSwap(false, true) {
		close(s.stuck)
	}
}

package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
)

// generation is one database behind a Store. It is counted, so that readers keep one that was replaced until they end.
type generation struct {
	cfg Config
	db  *pebble.DB
	log *slog.Logger
	// cache is that of the blocks; the database holds it.
	cache *pebble.Cache

	// refs counts the owner and every open reader; the one who takes it to 0 closes the database.
	refs     atomic.Int64
	closing  atomic.Bool
	closed   chan struct{} // closed when the database is; closeErr is set before
	closeErr error

	// retired says that another generation has taken this one's place: it changes nothing any more, what fails in it
	// concerns nobody, and its files go when it closes. life ends then.
	retired atomic.Bool
	life    context.Context
	end     func()

	failing sync.Once
	failed  atomic.Pointer[error] // the first background error, once OnFatal was told
	cramped atomic.Pointer[error] // of the compaction that found no room and is about to be reported
	failure chan struct{}         // closed when failed is set
	stuck   chan struct{}         // closed when Pebble stopped with its locks held
	sticks  atomic.Bool           // whoever sets it closes stuck

	kept    kept
	flush   flushState
	misuses atomic.Int64 // see Stats.Misuses
	applied Applied      // as found at Open
}

// openGeneration opens the database in cfg.Dir.
func openGeneration(cfg Config) (*generation, error) {
	g := &generation{cfg: cfg, log: cfg.Log, closed: make(chan struct{}), failure: make(chan struct{}), stuck: make(chan struct{})}
	g.life, g.end = context.WithCancel(context.Background())
	g.refs.Store(1)
	opts := g.options()
	defer opts.Cache.Unref()
	db, err := pebble.Open(cfg.Dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open store in %s: %w", cfg.Dir, err)
	}
	g.db, g.cache = db, opts.Cache
	g.flush.stale.Store(true)
	g.applied, err = g.readApplied(nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return g, nil
}

func (g *generation) options() *pebble.Options {
	memTable := orDefault(g.cfg.MemTableBytes, MemTableBytesDefault)
	// Pebble takes the memtables out of the cache it is given; without room for two a flush would empty the cache.
	cache := orDefault(g.cfg.CacheBytes, CacheBytesDefault) + memTablesUsual*int64(memTable)
	o := &pebble.Options{
		FS:                          tableFS{manifestFS{g.cfg.FS}, g.cfg.Late},
		Comparer:                    comparer,
		DisableWAL:                  true,
		ReadOnly:                    g.cfg.readOnly,
		FormatMajorVersion:          format,
		Cache:                       pebble.NewCache(cache),
		MaxOpenFiles:                orDefault(g.cfg.OpenFilesMax, OpenFilesDefault),
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: memTablesStop,
		L0StopWritesThreshold:       sublevelsStop,
		L0CompactionThreshold:       2 * SublevelsMerged, // Pebble begins at half of it
		LBaseMaxBytes:               baseTables * orDefault(g.cfg.TableBytes, TableBytesDefault),
		DisableAutomaticCompactions: g.cfg.ManualCompactions,
		DisableTableStats:           g.cfg.ManualCompactions,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, g.cfg.CompactionsMax) },
		Logger:                      pebbleLogger{g},
		EventListener:               g.listener(),
	}
	if g.cfg.Pace != nil {
		o.Experimental.CompactionScheduler = newPacedScheduler(g.cfg.Pace)
	}
	o.TargetFileSizes[0] = orDefault(g.cfg.TableBytes, TableBytesDefault)
	for i := range o.Levels {
		o.Levels[i].Compression = func() *block.CompressionProfile { return compression(g.cfg.ManualCompactions) }
		o.Levels[i].BlockSize = blockBytes
		o.Levels[i].IndexBlockSize = 256 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// tries is Snappy where it makes blocks smaller: it is tried on one block of ten of a table, and on the others as long as that was worth it. To try it on all was a
// fifth of the CPU of merges of values that do not compress. It has the name of the profile that can read what it writes.
var tries = &block.CompressionProfile{
	Name:                           block.SnappyCompression.Name,
	DataBlocks:                     block.SnappyCompression.DataBlocks,
	ValueBlocks:                    block.SnappyCompression.ValueBlocks,
	OtherBlocks:                    block.NoCompression.OtherBlocks,
	MinReductionPercent:            block.SnappyCompression.MinReductionPercent,
	AdaptiveReductionCutoffPercent: block.SnappyCompression.MinReductionPercent,
}

// compression is how blocks are compressed; repeat says that the same rows are to give the same tables.
func compression(repeat bool) *block.CompressionProfile {
	if repeat {
		return block.SnappyCompression
	}
	return tries
}

func orDefault[T int | int64 | uint64](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// close takes the owner's hold away and waits until the last reader has gone.
func (g *generation) close() error {
	if !g.closing.CompareAndSwap(false, true) {
		return ErrClosed
	}
	g.release()
	g.wait()
	if g.isClosed() {
		return errors.Join(g.err(), g.closeErr)
	}
	return g.err()
}

// wait returns when the database is closed, or never will be.
func (g *generation) wait() {
	select {
	case <-g.closed:
	case <-g.stuck:
	}
}

func (g *generation) isClosed() bool {
	select {
	case <-g.closed:
		return true
	default:
		return false
	}
}

// retire lets the generation go once its readers have ended.
func (g *generation) retire() {
	g.retired.Store(true)
	g.end()
	if g.closing.CompareAndSwap(false, true) {
		g.release()
	}
}

// closeDB closes the database. Pebble can stop with its locks held at any moment until it is closed, and this would
// never return then; so it has a goroutine, which Close waits for as long as there is hope.
func (g *generation) closeDB() {
	g.closeErr = errors.Join(closeKept(g.kept.takeAll()), g.db.Close())
	if g.retired.Load() {
		g.remove()
	}
	close(g.closed)
}

// remove takes the files of a retired generation away. What stays behind nobody will open.
func (g *generation) remove() {
	if g.closeErr != nil {
		g.log.Warn("could not close a store that was replaced", "dir", g.cfg.Dir, "error", g.closeErr)
	}
	if err := g.cfg.FS.RemoveAll(g.cfg.Dir); err != nil {
		g.log.Warn("could not remove a store that was replaced; the next start will", "dir", g.cfg.Dir, "error", err)
	}
}

// acquire counts a reader or writer in. It fails once Close was called.
func (g *generation) acquire() error {
	if g.closing.Load() {
		return ErrClosed
	}
	for {
		n := g.refs.Load()
		if n == 0 {
			return ErrClosed
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (g *generation) release() {
	switch n := g.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic(fmt.Sprintf("storage: released %d times more than acquired", -n))
	}
	go g.closeDB()
}

// err returns the background error that ended the database, nil while it is sound.
func (g *generation) err() error {
	if err := g.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail reports the first background error and records it, in this order: whoever is refused because of it finds that OnFatal was told.
func (g *generation) fail(err error) {
	g.failing.Do(func() {
		err = fmt.Errorf("store in %s: %w", g.cfg.Dir, err)
		switch {
		case g.retired.Load():
			g.log.Warn("a store that was replaced failed in the background", "error", err)
		case g.cfg.OnFatal != nil:
			g.log.Error("storage failed in the background", "error", err)
			g.cfg.OnFatal(err)
		default:
			g.log.Error("storage failed in the background", "error", err)
		}
		g.failed.Store(&err)
		close(g.failure)
	})
}

// stick notes that the database can not be closed any more.
func (g *generation) stick() {
	if g.sticks.CompareAndSwap(false, true) {
		close(g.stuck)
	}
}

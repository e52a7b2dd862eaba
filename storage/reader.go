package storage

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"holdfast/kv"
)

// Get returns a copy of the row at key, which a Table made; ok tells whether there is one.
func (s *Store) Get(key []byte) (value []byte, ok bool, err error) {
	g, err := s.enter()
	if err != nil {
		return nil, false, err
	}
	defer g.release()
	return get(g.db, key)
}

func get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", formatString(key), err)
	}
	value := append(make([]byte, 0, len(v)), v...)
	if err := closer.Close(); err != nil {
		return nil, false, fmt.Errorf("read %s: %w", formatString(key), err)
	}
	return value, true, nil
}

func formatString(key []byte) string { return fmt.Sprintf("%s", formatKey(key)) }

// Scan iterates over the rows of t with bodies in [lo, hi) as they are now; a nil hi is the end of the table.
func (s *Store) Scan(t Table, lo, hi []byte) (*Iter, error) {
	g, err := s.enter()
	if err != nil {
		return nil, err
	}
	it, err := newIter(g.db, g, t, lo, hi)
	if err != nil {
		g.release()
		return nil, err
	}
	return it, nil
}

// ScanTables is Scan of what is in tables: what a crash would leave, and no less than a TableRow read before it shows. To search memtables
// costs as much as to search tables, and is in vain for rows that were written long ago.
func (s *Store) ScanTables(t Table, lo, hi []byte) (*Iter, error) {
	g, err := s.enter()
	if err != nil {
		return nil, err
	}
	it, err := newIter(tablesOf{g.db}, g, t, lo, hi)
	if err != nil {
		g.release()
		return nil, err
	}
	return it, nil
}

// tablesOf reads a database without its memtables.
type tablesOf struct{ *pebble.DB }

// NewIter implements pebble.Reader.
func (t tablesOf) NewIter(o *pebble.IterOptions) (*pebble.Iterator, error) {
	o.OnlyReadGuaranteedDurable = true
	return t.DB.NewIter(o)
}

// TableRow is Get of what is in tables.
func (s *Store) TableRow(key []byte) (value []byte, ok bool, err error) {
	g, err := s.enter()
	if err != nil {
		return nil, false, err
	}
	defer g.release()
	it, err := tablesOf{g.db}.NewIter(&pebble.IterOptions{})
	if err != nil {
		return nil, false, fmt.Errorf("read %s from tables: %w", formatString(key), err)
	}
	if it.SeekGE(key) && comparer.Equal(it.Key(), key) {
		value, err = it.ValueAndErr()
		value, ok = append(make([]byte, 0, len(value)), value...), err == nil
	}
	if err := errors.Join(err, it.Error(), it.Close()); err != nil {
		return nil, false, fmt.Errorf("read %s from tables: %w", formatString(key), err)
	}
	return value, ok, nil
}

// Spare keeps the cache of blocks small until release is called, which empties it: for who reads all and will not come back. Without it, one walk
// over the keys of a member that was just started would fill its cache for good.
func (s *Store) Spare() (release func(), err error) {
	g, err := s.enter()
	if err != nil {
		return nil, err
	}
	size := int(orDefault(g.cfg.CacheBytes, CacheBytesDefault))
	give := g.cache.Reserve(size / 8 * 7)
	return func() {
		g.cache.Reserve(int(g.cache.MaxSize()))() // what finds no room goes
		give()
		g.release()
	}, nil
}

// Reader sees the store as it was when it was made, however many rows of however many tables it reads. It keeps the
// store and the old versions of rows from going away: Close it soon.
type Reader struct {
	g    *generation
	snap *pebble.Snapshot
}

// NewReader opens a consistent view.
func (s *Store) NewReader() (*Reader, error) {
	g, err := s.enter()
	if err != nil {
		return nil, err
	}
	return &Reader{g: g, snap: g.db.NewSnapshot()}, nil
}

// Get is Store.Get in this view.
func (r *Reader) Get(key []byte) (value []byte, ok bool, err error) { return get(r.snap, key) }

// Scan is Store.Scan in this view.
func (r *Reader) Scan(t Table, lo, hi []byte) (*Iter, error) { return newIter(r.snap, nil, t, lo, hi) }

// Close ends the view. Its iterators must have been closed.
func (r *Reader) Close() error {
	defer r.g.release()
	return r.snap.Close()
}

// Iter walks over the rows of one table in the order of their bodies, the versions of one body from the newest on.
// It stands before the first row until a seek or Next. What Body and Value return is valid until the next move.
type Iter struct {
	it    *pebble.Iterator
	g     *generation // released at Close; nil if a Reader holds it
	t     Table
	begun bool
	// lookup says that it may be kept when it is closed: see kept. mark is what it was opened for.
	lookup bool
	mark   kv.Revision
	// n and bn are the lengths of the present key without suffix, and of the body within it.
	n int

	lower, upper, key []byte // scratch that lives with the pooled Iter
}

var iters = sync.Pool{New: func() any { return new(Iter) }}

func newIter(r pebble.Reader, g *generation, t Table, lo, hi []byte) (*Iter, error) {
	i := iters.Get().(*Iter)
	i.g, i.t, i.begun, i.lookup = g, t, false, false
	i.bounds(lo, hi)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: i.lower, UpperBound: i.upper, UseL6Filters: true})
	if err != nil {
		iters.Put(i)
		return nil, fmt.Errorf("iterate over %s: %w", t, err)
	}
	i.it = it
	return i, nil
}

func (i *Iter) bounds(lo, hi []byte) {
	i.lower = i.t.AppendKey(i.lower[:0], lo)
	if hi == nil {
		i.upper = (i.t + 1).AppendKey(i.upper[:0], nil)
	} else {
		i.upper = i.t.AppendKey(i.upper[:0], hi)
	}
}

// SetBounds moves the iterator to the bodies in [lo, hi), before the first of them.
func (i *Iter) SetBounds(lo, hi []byte) {
	i.bounds(lo, hi)
	i.it.SetBounds(i.lower, i.upper)
	i.begun = false
}

// SeekGE moves to the first row whose body is not below body.
func (i *Iter) SeekGE(body []byte) bool {
	i.begun = true
	i.key = i.t.AppendKey(i.key[:0], body)
	return i.at(i.it.SeekGE(i.key))
}

// SeekVersion moves to the newest version of body that is not newer than rev, or beyond body if there is none.
func (i *Iter) SeekVersion(body []byte, rev kv.Rev) bool {
	i.begun = true
	i.key = i.t.AppendVersionKey(i.key[:0], body, rev)
	return i.at(i.it.SeekGE(i.key))
}

// SeekBody moves to the newest row of exactly this body and finds none where another would be next. Filters
// spare it most tables that lack the body. After it, Next only walks over the versions of body.
func (i *Iter) SeekBody(body []byte) bool {
	i.begun = true
	i.key = i.t.AppendKey(i.key[:0], body)
	return i.at(i.it.SeekPrefixGE(i.key))
}

// SeekBodyVersion is SeekVersion confined to body, as SeekBody is.
func (i *Iter) SeekBodyVersion(body []byte, rev kv.Rev) bool {
	i.begun = true
	i.key = i.t.AppendVersionKey(i.key[:0], body, rev)
	return i.at(i.it.SeekPrefixGE(i.key))
}

// Next moves to the next row, the first one at the beginning.
func (i *Iter) Next() bool {
	if !i.begun {
		i.begun = true
		return i.at(i.it.First())
	}
	return i.at(i.it.Next())
}

// NextBody moves to the next body, over the remaining versions of the present one.
func (i *Iter) NextBody() bool {
	if !i.begun {
		return i.Next()
	}
	return i.at(i.it.NextPrefix())
}

func (i *Iter) at(ok bool) bool {
	if ok {
		i.n = split(i.it.Key())
	}
	return ok
}

// Body is the body of the present row.
func (i *Iter) Body() []byte { return i.it.Key()[1 : i.n-1] }

// Rev is the revision of the present version; it must not be called on a plain row.
func (i *Iter) Rev() kv.Rev { return decodeSuffix(i.it.Key()[i.n:]) }

// Value is the value of the present row. An error shows in Err.
func (i *Iter) Value() ([]byte, error) {
	v, err := i.it.ValueAndErr()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", formatString(i.it.Key()), err)
	}
	return v, nil
}

// Err tells why the iterator ended early; nil at a true end.
func (i *Iter) Err() error {
	if err := i.it.Error(); err != nil {
		return fmt.Errorf("iterate over %s: %w", i.t, err)
	}
	return nil
}

// Close ends the iterator and returns Err if that was not asked for.
func (i *Iter) Close() error {
	g := i.g
	if g != nil {
		defer g.release()
	}
	if i.lookup && g.kept.put(i) {
		return nil
	}
	return i.end()
}

func (i *Iter) end() error {
	err := i.it.Close()
	i.it, i.g = nil, nil
	t := i.t
	iters.Put(i)
	if err != nil {
		return fmt.Errorf("iterate over %s: %w", t, err)
	}
	return nil
}

package mvcc

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"holdfast/kv"
	"holdfast/storage"
)

// A command whose events would take more memory than this is Large: watchers and others read its events from the
// store. The numbers are far above any transaction and below what a run may hold in the end.
const (
	eventsMax     = 4096
	eventBytesMax = 16 << 20
)

// spanMin is how many keys of the database a range deletion has to reach before it is kept as one span in the overlay
// instead of a chain for each: a chain costs some 200 bytes.
const spanMin = 1024

// Command is one command of a run: all its changes carry the revision after the one before it. It sees what earlier
// commands of the run and it itself did.
type Command struct {
	r       *Run
	begin   kv.Revision // the revision before the command
	changes int64
	written int64
	events  []kv.Event
	size    int // bytes of events
	large   bool
	tally   tally
}

// Command begins the next command. It must End before another begins.
func (r *Run) Command() *Command {
	r.mustBeClosed("Command")
	r.open = true
	r.cmd = Command{r: r, begin: r.now.revision}
	return &r.cmd
}

// Revision is the revision that a read in the command is at: the one before it until it changes something.
func (c *Command) Revision() kv.Revision {
	if c.changes > 0 {
		return c.begin + 1
	}
	return c.begin
}

// CheckRevision tells whether a range in a transaction may ask for rev: etcd asks this of every range before anything
// is written, so against the state before the command, and takes only 0 for the latest.
func (c *Command) CheckRevision(rev kv.Revision) error {
	switch {
	case rev == 0:
		return nil
	case rev > c.begin:
		return ErrFutureRevision
	case rev < c.r.now.compacted:
		return ErrCompacted
	}
	return nil
}

// Get returns the encoded KeyValue of key as it is now. The bytes must not be changed and stay valid.
func (c *Command) Get(key []byte) (encoded []byte, ok bool) {
	row := c.rowAt(key, c.Revision())
	return row, row != nil
}

// Stands is the present version of key without its value: what a compare of anything else asks, and most often to be had without reading
// it. It is one of zeros if the key does not live.
func (c *Command) Stands(key []byte) kv.KeyValue {
	now := c.before(key, false).was
	if !now.lives() { // its standing still tells when it was deleted
		return kv.KeyValue{}
	}
	return kv.KeyValue{Key: key, Create: now.create, Mod: now.rev.Main, Version: now.version, Lease: now.lease}
}

func (c *Command) rowAt(key []byte, at kv.Revision) []byte {
	if v, known := c.r.over.get(key, at); known {
		return v.row
	}
	return c.r.baseAt(key, min(at, c.r.base.revision))
}

// Visit calls fn with the encoded KeyValue of every key in kr, in key order, until fn returns false. The bytes are
// valid during the call only, and fn must not change or range over the store.
func (c *Command) Visit(kr kv.KeyRange, fn func(encoded []byte) bool) {
	if kr.IsEmpty() {
		return
	}
	if kr.IsSingle() {
		if row, ok := c.Get(kr.Key); ok {
			fn(row)
		}
		return
	}
	lo, hi := kr.Bounds()
	c.r.visit(c.Revision(), lo, hi, func(row []byte, _ kv.Rev, _ *chain) bool { return fn(row) })
}

// inside is a command as a source of ranges at one revision.
type inside struct {
	c  *Command
	at kv.Revision
}

func (i inside) visit(lo, hi []byte, fn func(row []byte) bool) error {
	i.c.r.visit(i.at, lo, hi, func(row []byte, _ kv.Rev, _ *chain) bool { return fn(row) })
	return i.c.r.err
}

func (i inside) get(key []byte) ([]byte, error) { return i.c.rowAt(key, i.at), i.c.r.err }

func (i inside) count(lo, hi []byte) (int64, error) {
	r := i.c.r
	if i.at == i.c.Revision() {
		r.countBirths(r.births)
		return r.edit.Count(lo, hi, i.scanCount)
	}
	if i.at <= r.base.revision {
		v := view{s: r.s, now: r.base, at: i.at, ctx: context.Background()}
		version, err := v.census(lo, hi)
		if err != nil {
			return 0, err
		}
		if version != nil {
			return version.Count(lo, hi, i.scanCount)
		}
	}
	// A revision between two commands of the run, or one that is cheaper to scan.
	return i.scanCount(lo, hi)
}

func (i inside) scanCount(lo, hi []byte) (int64, error) {
	n := int64(0)
	err := i.visit(lo, hi, func([]byte) bool { n++; return true })
	return n, err
}

// Range answers q inside the command, as Store.Range does outside: a revision above the one the command is at is
// ErrFutureRevision, one below the compacted one ErrCompacted. The result's revision is the command's.
func (c *Command) Range(q *kv.RangeRequest) (*kv.RangeResult, error) {
	c.tally.ranges++
	now := state{revision: c.Revision(), compacted: c.r.now.compacted}
	at, err := now.resolve(q.Revision)
	if err != nil {
		return nil, err
	}
	result, err := answer(inside{c, at}, q, &collector{q: q})
	if err != nil {
		c.r.fail(err)
		return nil, err
	}
	result.Revision = now.revision
	return result, nil
}

// Expect makes room for the events of n changes more.
func (c *Command) Expect(n int) {
	if !c.large {
		c.events = slices.Grow(c.events, min(n, eventsMax-len(c.events)))
	}
}

// Put is Set with the previous KeyValue.
func (c *Command) Put(key, value []byte, lease kv.LeaseID) (prev []byte) {
	prev, _ = c.Set(key, value, lease, true)
	return prev
}

// Set sets key and returns the lease it hung on before and, if wanted, the encoded KeyValue it had; nil if it is new. It keeps
// copies only.
func (c *Command) Set(key, value []byte, lease kv.LeaseID, wanted bool) (prev []byte, from kv.LeaseID) {
	r := c.r
	if r.err != nil {
		return nil, 0
	}
	before := c.before(key, wanted || !r.bare)
	if r.err != nil {
		return nil, 0
	}
	prev, was := before.row, before.was
	c.tally.puts++
	c.tally.putBytes += uint64(len(key) + len(value))
	rev := c.next()
	v := kv.KeyValue{Key: key, Value: value, Create: rev.Main, Mod: rev.Main, Version: 1, Lease: lease}
	rec := record{kind: kindCreate, key: key}
	event := kv.Event{Rev: rev, Type: kv.EventPut, Prev: prev, Lease: lease, PrevLease: was.lease}
	if was.lives() {
		v.Create, v.Version = was.create, was.version+1
		rec.kind, rec.hasOld, rec.old, rec.oldSize = kindUpdate, true, was.rev, was.size
		event.NoPrev = prev == nil
	}
	if prev != nil && was.rev.Main == rev.Main {
		event.Prev = c.rowBefore(key)
	}
	row := v.Append(make([]byte, 0, v.Size()))
	event.KV, event.Key = row, keyOf(row)
	rec.sum, rec.size = r.summer.sum(rev, false, row), len(row)
	c.written += rec.bytes()
	r.puts += len(row)
	r.setRecord(rev, &rec)
	now := standing{rev: rev, create: v.Create, version: v.Version, lease: lease, size: len(row)}
	ch := before.chain
	if ch == nil {
		ch = r.over.add(before.hash, event.Key)
		ch.updated, ch.sifted = was.lives(), before.sifted
	}
	ch.set(row, now)
	if !was.lives() {
		r.born(ch)
	}
	c.record(event)
	return prev, was.lease
}

// found is what there is of a key before a put.
type found struct {
	hash   uint64
	chain  *chain // nil if the run has not changed it
	was    standing
	row    []byte // nil if it is not wanted, or does not live
	sifted bool   // it never lived, as the sieve says
}

// before tells how key stands before a put, with its row if that is wanted.
func (c *Command) before(key []byte, wanted bool) found {
	over := &c.r.over
	f := found{hash: over.hash(key)}
	f.chain = over.find(f.hash, key)
	switch {
	case wanted:
		var rev kv.Rev
		f.row, rev = c.newest(f.hash, f.chain, key)
		f.was = c.r.standingOf(f.row, rev)
	case f.chain != nil:
		f.was = f.chain.now
	case !over.spanned(key):
		f.was, f.sifted = c.r.baseStands(f.hash, key)
	}
	return f
}

// current returns the newest row of key and when it was written; nil if key does not live.
func (c *Command) current(key []byte) ([]byte, kv.Rev) {
	over := &c.r.over
	hash := over.hash(key)
	return c.newest(hash, over.find(hash, key), key)
}

// newest is current for a key with a hash, whose chain is ch, nil if it has none.
func (c *Command) newest(hash uint64, ch *chain, key []byte) ([]byte, kv.Rev) {
	switch {
	case ch != nil:
		v := ch.versions[len(ch.versions)-1]
		return v.row, v.rev
	case c.r.over.spanned(key):
		return nil, kv.Rev{}
	}
	return c.r.baseRow(hash, key)
}

// DeleteRange deletes the keys of kr and returns how many there were. each, if not nil, gets the encoded KeyValue
// of every one in key order, valid during the call only.
func (c *Command) DeleteRange(kr kv.KeyRange, each func(prev []byte)) int64 {
	if c.r.err != nil {
		return 0
	}
	c.tally.deletes++
	if kr.IsEmpty() {
		return 0
	}
	if kr.IsSingle() {
		prev, old := c.current(kr.Key)
		if prev == nil || c.r.err != nil {
			return 0
		}
		if each != nil {
			each(prev)
		}
		key := keyOf(prev)
		c.r.over.set(key, nil, standing{rev: c.erase(key, old, prev)}, true)
		return 1
	}
	return c.deleteInterval(kr, each)
}

// deleteInterval writes the tombstones while it walks, and tells the overlay when the walk is over.
func (c *Command) deleteInterval(kr kv.KeyRange, each func(prev []byte)) int64 {
	type death struct {
		key []byte
		rev kv.Rev
	}
	var chains, plain []death
	lo, hi := kr.Bounds()
	n, beyond := int64(0), false
	c.r.visit(c.Revision(), lo, hi, func(prev []byte, old kv.Rev, from *chain) bool {
		if each != nil {
			each(prev)
		}
		n++
		key := keyOf(prev)
		rev := c.erase(key, old, prev)
		switch {
		case from != nil:
			chains = append(chains, death{from.key, rev})
		case len(plain) < spanMin:
			plain = append(plain, death{bytes.Clone(key), rev})
		default:
			beyond = true
		}
		return c.r.err == nil
	})
	if beyond {
		c.r.over.spans = append(c.r.over.spans, span{lo: bytes.Clone(lo), hi: bytes.Clone(hi), rev: c.begin + 1})
		plain = nil
	}
	for _, d := range chains {
		c.r.over.set(d.key, nil, standing{rev: d.rev}, true)
	}
	for _, d := range plain {
		c.r.over.set(d.key, nil, standing{rev: d.rev}, true)
	}
	return n
}

// erase writes the tombstone of key, whose row prev was written at old. It keeps neither key nor prev.
func (c *Command) erase(key []byte, old kv.Rev, prev []byte) kv.Rev {
	rev := c.next()
	c.r.edit.Delete(key, rev.Main)
	rec := record{kind: kindDelete, key: key, hasOld: true, old: old, oldSize: len(prev)}
	c.r.rowBuf = appendTombstone(c.r.rowBuf[:0], key)
	rec.sum, rec.size = c.r.summer.sum(rev, true, c.r.rowBuf), len(c.r.rowBuf)
	c.written += rec.bytes()
	c.r.batch.SetVersion(storage.TableVersions, key, rev, nil)
	c.r.setRecord(rev, &rec)
	if c.large {
		return rev
	}
	before, err := kv.DecodeKeyValue(prev)
	if err != nil {
		c.r.fail(fmt.Errorf("delete %q: %w", key, err))
		return rev
	}
	gone := kv.KeyValue{Key: key, Mod: rev.Main}
	row := gone.Append(make([]byte, 0, gone.Size()))
	event := kv.Event{Rev: rev, Type: kv.EventDelete, Key: keyOf(row), KV: row, Prev: bytes.Clone(prev), PrevLease: before.Lease}
	if old.Main == rev.Main {
		event.Prev = c.rowBefore(key)
	}
	c.record(event)
	return rev
}

// rowBefore returns the row that key had at the revision before the command: what a watcher is told was there, also where
// the command has changed the key already.
func (c *Command) rowBefore(key []byte) []byte { return c.rowAt(key, c.begin) }

// next gives out the place of the next change.
func (c *Command) next() kv.Rev {
	c.changes++
	return kv.Rev{Main: c.begin + 1, Sub: c.changes - 1}
}

// record keeps the event for Changes while there is room.
func (c *Command) record(e kv.Event) {
	if c.large {
		return
	}
	c.size += len(e.KV) + len(e.Prev)
	if len(c.events) >= eventsMax || c.size > eventBytesMax {
		c.large, c.events = true, nil
		return
	}
	c.events = append(c.events, e)
}

// End ends the command and returns the revision after it: the one before if nothing changed.
func (c *Command) End() kv.Revision {
	r := c.r
	if !r.open {
		panic("mvcc: a command ended twice")
	}
	r.open = false
	r.tally.add(&c.tally)
	if c.tally.operations() > 1 {
		r.txns++
	}
	if c.changes > 0 {
		r.now.revision++
		r.now.written += c.written
		r.changes = append(r.changes, kv.Change{Revision: r.now.revision, Events: c.events, Large: c.large})
	}
	return r.now.revision
}

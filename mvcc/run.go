package mvcc

import (
	"bytes"
	"fmt"

	"holdfast/kv"
	"holdfast/mvcc/census"
	"holdfast/storage"
)

// Run fills one storage batch with the changes of a bounded run of commands:
//
//	run := store.Begin(batch)
//	cmd := run.Command() ... cmd.End()   // for each command
//	err := run.Seal()                    // then batch.Commit()
//	run.Publish()                        // unless the commit failed
//	run.Drop()                           // in any case
//
// Between Begin and Publish nobody but the run sees its changes; the run itself sees all of them. An error of the
// database sticks: everything after it does nothing and Seal returns it, so that call sites read as a list of acts.
type Run struct {
	s     *Store
	batch *storage.Batch
	base  *state // published when the run began
	now   state  // after the last ended command
	over  overlay
	edit  *census.Edit // of the census of base, by the commands so far, but for births
	// births are the chains of which the census has not been told all births: it is told of them in key order, as keys that are neighbours cost it little.
	births []*chain
	// changes are what the ended commands did, for watch and leases.
	changes []kv.Change
	cmd     Command
	open    bool // cmd is between Command and End
	visits  bool // a visit is in progress
	bare    bool // events need not say what was there before
	// allKnown says that recent knows every key that lived when the run began.
	allKnown bool
	err      error
	// tally and txns count what the ended commands did.
	tally tally
	txns  uint64
	// gets answers for single keys as of base, tables for those among them that were written long ago, and scans for ranges, each opened
	// when it is first needed. finds is one of the first two: see finder.
	gets, tables, scans *storage.Iter
	finds               *storage.Iter
	// records are the records of the changes, and puts how many bytes of versions the overlay holds for the batch. Seal puts
	// both into it in the order of their keys: the memtable then finds the place of each beside that of the one before it.
	records *storage.Batch
	puts    int
	// Scratch: a tombstone's row, the key and the row of a record.
	rowBuf, keyBuf, recordBuf []byte
	summer                    rowSummer
}

// Begin starts a run that writes into batch. There is at most one run at a time.
func (s *Store) Begin(batch *storage.Batch) *Run {
	base := s.published.Load()
	_, finished := s.Compaction()
	return &Run{
		s: s, batch: batch, base: base, now: *base, edit: base.census.Edit(finished), records: s.st.NewBatch(), over: overlay{seed: s.recent.seed},
		allKnown: s.recent.living() == base.census.Keys(),
	}
}

// Bare says that nobody asks what was there before: changes are without Prev then, which saves reading it, and say so.
func (r *Run) Bare() { r.bare = true }

// Len is how many bytes the run is going to put into its batch, about.
func (r *Run) Len() int { return r.batch.Len() + r.records.Len() + r.puts }

// Err returns the first error of the database that the run met.
func (r *Run) Err() error { return r.err }

func (r *Run) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Revision is the revision after the last ended command.
func (r *Run) Revision() kv.Revision { return r.now.revision }

// Compacted is the compacted revision, that of a Compact in this run included.
func (r *Run) Compacted() kv.Revision { return r.now.compacted }

// Compact hides the history below rev, to be removed physically after the run is published. rev must not lie below
// or at the revision compacted before (ErrCompacted) nor above the present one (ErrFutureRevision).
func (r *Run) Compact(rev kv.Revision) error {
	r.mustBeClosed("Compact")
	switch {
	case rev <= r.now.compacted:
		return ErrCompacted
	case rev > r.now.revision:
		return ErrFutureRevision
	}
	r.now.compacted = rev
	return nil
}

// Changes are the changes of the ended commands, oldest first. They stay valid after the run.
func (r *Run) Changes() []kv.Change { return r.changes }

// Seal puts into the batch what describes the run as a whole and returns the first error of the run. The batch may be
// committed if there was none.
func (r *Run) Seal() error {
	r.mustBeClosed("Seal")
	if r.err == nil && r.now.revision > r.base.revision {
		if len(r.births) > 0 {
			r.countBirths(r.over.inOrder())
		}
		next, err := r.edit.Finish(r.batch, r.walk)
		if err != nil {
			r.fail(err)
		}
		r.now.census = next
	}
	r.closeIters()
	if r.err != nil {
		return r.err
	}
	r.setRows()
	if r.now != *r.base {
		r.batch.Set(stateKey, r.now.encode())
	}
	return nil
}

// born notes that the key of c began to live.
func (r *Run) born(c *chain) {
	if c.births++; c.births == 1 {
		r.births = append(r.births, c)
	}
}

// countBirths tells the census of the births in chains, which are all that it has not been told of.
func (r *Run) countBirths(chains []*chain) {
	for _, c := range chains {
		for ; c.births > 0; c.births-- {
			r.edit.Create(c.key)
		}
	}
	r.births = r.births[:0]
}

// setRows puts into the batch what was kept back from it.
func (r *Run) setRows() {
	for _, c := range r.over.inOrder() {
		for _, v := range c.versions {
			if v.row != nil {
				r.batch.SetVersion(storage.TableVersions, c.key, v.rev, v.row)
			}
		}
	}
	r.batch.Append(r.records)
}

// Publish shows readers what the run did, in one step. The batch must have been committed.
func (r *Run) Publish() {
	r.mustBeClosed("Publish")
	r.s.totals.add(&r.tally, r.txns)
	if r.now == *r.base {
		return
	}
	all := len(r.over.spans) > 0
	if all {
		r.s.cache.purge(r.now.revision)
	}
	r.s.recent.publish(r.now.revision, all, r.over.chains)
	for _, c := range r.over.chains {
		last := c.versions[len(c.versions)-1]
		// A key written for the first time is not cached: most keys are written once and read in lists.
		admit := len(c.versions) > 1 || c.updated
		r.s.cache.change(c.key, last.rev, last.row, admit)
	}
	now := r.now
	if now.compacted != r.base.compacted {
		r.s.compactor.schedule(now.compacted)
	}
	r.s.published.Store(&now)
}

// Drop ends a run, published or not. Nothing but Drop may be called after it.
func (r *Run) Drop() {
	r.closeIters()
	if r.records == nil {
		return
	}
	if err := r.records.Close(); err != nil {
		r.fail(err)
	}
	r.records = nil
}

func (r *Run) closeIters() {
	r.finds = nil
	for _, it := range []**storage.Iter{&r.gets, &r.tables, &r.scans} {
		if *it != nil {
			if err := (*it).Close(); err != nil {
				r.fail(err)
			}
			*it = nil
		}
	}
}

func (r *Run) mustBeClosed(what string) {
	if r.open {
		panic("mvcc: " + what + " inside a command that has not ended")
	}
}

// baseRow returns the row that lived for the key with a hash when the run began, and when it was written; nil if there was none.
func (r *Run) baseRow(hash uint64, key []byte) ([]byte, kv.Rev) {
	cached := r.s.cache.hash(key)
	if row, rev := r.s.cache.get(cached, key, r.base.revision); row != nil {
		return row, rev
	}
	if s, known := r.s.recent.get(hash, key); r.err != nil || known != unknown && !s.lives() || known == unknown && r.allKnown {
		return nil, kv.Rev{}
	}
	it := r.getter()
	if it == nil {
		return nil, kv.Rev{}
	}
	row, rev := r.readAt(it, key, r.base.revision)
	if row != nil {
		r.s.cache.fill(cached, key, rev, row, r.base.revision)
	}
	return row, rev
}

// baseStands tells how the key with a hash stood when the run began, and whether the sieve says so. The row that says so is neither copied nor
// cached: Publish caches the next one.
func (r *Run) baseStands(hash uint64, key []byte) (s standing, stranger bool) {
	if s, known := r.s.recent.get(hash, key); known != unknown {
		return s, known == sifted
	}
	if r.allKnown {
		return standing{}, false
	}
	return r.storedStands(key), false
}

// storedStands is baseStands of a key that has to be looked for.
func (r *Run) storedStands(key []byte) standing {
	if row, rev := r.s.cache.get(r.s.cache.hash(key), key, r.base.revision); row != nil {
		return r.standingOf(row, rev)
	}
	it := r.finder()
	if it == nil {
		return standing{}
	}
	if !it.SeekBodyVersion(key, newestAt(r.base.revision)) {
		if err := it.Err(); err != nil {
			r.fail(err)
		}
		return standing{}
	}
	row, err := it.Value()
	if err != nil {
		r.fail(err)
	}
	if err != nil || len(row) == 0 {
		return standing{}
	}
	return r.standingOf(row, it.Rev())
}

// standingOf tells how a key stands whose newest row was written at rev; nil is that of a key that does not live.
func (r *Run) standingOf(row []byte, rev kv.Rev) standing {
	if row == nil {
		return standing{}
	}
	v, err := kv.DecodeKeyValue(row)
	if err != nil {
		r.fail(fmt.Errorf("read the version of revision %s: %w", rev, err))
	}
	return standing{rev: rev, create: v.Create, version: v.Version, lease: v.Lease, size: len(row)}
}

// baseAt is baseRow at an earlier revision.
func (r *Run) baseAt(key []byte, at kv.Revision) []byte {
	if at >= r.base.revision {
		row, _ := r.baseRow(r.over.hash(key), key)
		return row
	}
	lo, hi := kv.KeyRange{Key: key}.Bounds()
	it := r.scanner(lo, hi)
	if it == nil {
		return nil
	}
	row, _ := r.readAt(it, key, at)
	return row
}

func (r *Run) readAt(it *storage.Iter, key []byte, at kv.Revision) ([]byte, kv.Rev) {
	v := view{s: r.s, now: r.base, at: at}
	row, rev, err := v.read(it, key)
	if err != nil {
		r.fail(err)
		return nil, kv.Rev{}
	}
	return row, rev
}

// getter returns the iterator that finds single keys as of base; nil after an error.
func (r *Run) getter() *storage.Iter {
	if r.gets != nil || r.err != nil {
		return r.gets
	}
	it, err := r.s.st.Scan(storage.TableVersions, nil, nil)
	if err != nil {
		r.fail(err)
		return nil
	}
	r.gets = it
	return it
}

// finder returns an iterator that finds the keys which recent does not know, as of base; nil after an error. Where recent knows all that
// is not in tables yet, it does not look into memtables.
func (r *Run) finder() *storage.Iter {
	if r.finds != nil || r.err != nil {
		return r.finds
	}
	settled, err := r.s.inTables(r.s.recent.since())
	if err == nil && settled {
		r.tables, err = r.s.st.ScanTables(storage.TableVersions, nil, nil)
	}
	if err != nil {
		r.fail(err)
		return nil
	}
	if r.finds = r.tables; !settled {
		r.finds = r.getter()
	}
	return r.finds
}

// scanner returns an iterator over the versions in [lo, hi) as of base; nil after an error. There is only one, so a
// visit must not begin another.
func (r *Run) scanner(lo, hi []byte) *storage.Iter {
	if r.err != nil {
		return nil
	}
	if r.scans != nil {
		r.scans.SetBounds(lo, hi)
		return r.scans
	}
	it, err := r.s.st.Scan(storage.TableVersions, lo, hi)
	if err != nil {
		r.fail(err)
		return nil
	}
	r.scans = it
	return it
}

// visit calls fn for every key that lives in [lo, hi) at revision at, in key order, until fn returns false. fn also gets
// the chain of a row that came from the overlay.
func (r *Run) visit(at kv.Revision, lo, hi []byte, fn func(row []byte, rev kv.Rev, from *chain) bool) {
	r.merge(at, lo, hi, func(_, row []byte, rev kv.Rev, from *chain) bool { return row == nil || fn(row, rev, from) })
}

// walk shows the census every key that has a row, and whether it lives.
func (r *Run) walk(lo, hi []byte, fn func(key []byte, lives bool) bool) error {
	r.merge(r.now.revision, lo, hi, func(key, row []byte, _ kv.Rev, _ *chain) bool { return fn(key, row != nil) })
	return r.err
}

// merge goes over the keys of the database and of the overlay as revision at sees them, in key order. row is nil for a
// key that is gone. fn must neither change nor range over the store.
func (r *Run) merge(at kv.Revision, lo, hi []byte, fn func(key, row []byte, rev kv.Rev, from *chain) bool) {
	if r.visits {
		panic("mvcc: a visit inside a visit")
	}
	r.visits = true
	defer func() { r.visits = false }()
	it := r.scanner(lo, hi)
	if it == nil {
		return
	}
	over := r.over.within(lo, hi)
	// pass shows the chains below key (all if key is nil) and tells whether to go on.
	pass := func(key []byte) bool {
		for len(over) > 0 && (key == nil || bytes.Compare(over[0].key, key) < 0) {
			first := over[0]
			over = over[1:]
			if v, ok := first.at(at); ok && !fn(first.key, v.row, v.rev, first) {
				return false
			}
		}
		return true
	}
	on := true
	err := scan(it, min(at, r.base.revision), func(key []byte, rev kv.Rev, row []byte) (bool, error) {
		if on = pass(key); !on {
			return false, nil
		}
		if len(over) > 0 && bytes.Equal(over[0].key, key) {
			if _, ok := over[0].at(at); ok {
				return true, nil // the overlay has a newer version, which pass shows next
			}
		}
		if len(r.over.spans) > 0 && r.over.isSpanned(key, at) {
			row = nil
		}
		on = fn(key, row, rev, nil)
		return on, nil
	})
	if err != nil {
		r.fail(err)
		return
	}
	if on {
		pass(nil)
	}
}

// setRecord keeps the record of the change at rev for the batch.
func (r *Run) setRecord(rev kv.Rev, rec *record) {
	r.keyBuf = appendRevKey(r.keyBuf[:0], rev)
	r.recordBuf = rec.append(r.recordBuf[:0], rev)
	r.records.Set(r.keyBuf, r.recordBuf)
}

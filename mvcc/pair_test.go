package mvcc

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// pair drives a Store and the model with the same random commands and compares them.
type pair struct {
	t   testing.TB
	rng *rand.Rand
	fs  *vfs.MemFS
	st  *storage.Store
	s   *Store
	m   *model
	// index counts runs; saved holds the model after each one that is not known to be durable.
	index kv.Index
	saved map[kv.Index]*model
	keys  [][]byte
}

func newPair(t testing.TB, seed uint64) *pair {
	p := &pair{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewCrashableMem(), m: newModel(),
		saved: map[kv.Index]*model{0: newModel()},
	}
	for range 12 {
		p.keys = append(p.keys, p.randomKey())
	}
	// Keys that are hard for the encoding: beginnings of one another, and the extreme bytes.
	for _, k := range []string{"a", "a\x00", "a\x00\x00", "a\x00b", "a\xff", "\xff", "\xff\xff", "\x00", "\x00\x0d"} {
		p.keys = append(p.keys, []byte(k))
	}
	p.open()
	return p
}

func (p *pair) randomKey() []byte {
	k := make([]byte, 1+p.rng.IntN(4))
	for i := range k {
		k[i] = "abc\x00\xff"[p.rng.IntN(5)]
	}
	return k
}

func (p *pair) key() []byte { return p.keys[p.rng.IntN(len(p.keys))] }

func (p *pair) open() {
	var err error
	p.st, err = storage.Open(storage.Config{FS: p.fs, Dir: "store", CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		p.t.Fatal(err)
	}
	// Small caches, so that they forget, or one that never does.
	recent := []int64{-1, 1 << 10, 8 << 10, 0}[p.rng.IntN(4)]
	if p.s, err = Open(p.st, Config{RowCacheBytes: 64 << 10, RecentBytes: recent}); err != nil {
		p.t.Fatal(err)
	}
	p.index = p.st.Applied().Index
	saved, ok := p.saved[p.index]
	if !ok {
		p.t.Fatalf("opened at applied index %d, which no run ended at or which was durable before", p.index)
	}
	p.m = saved.clone()
}

func (p *pair) close() {
	if stats, err := p.st.Stats(); err != nil || stats.Misuses > 0 {
		p.t.Fatalf("%d rows were not written and removed exactly once (%v)", stats.Misuses, err)
	}
	if err := p.st.Close(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) keyRange() kv.KeyRange {
	switch r := (kv.KeyRange{Key: p.key()}); p.rng.IntN(8) {
	case 0:
		return everything
	case 1:
		r.End = []byte{0}
		return r
	case 2, 3:
		return r
	default:
		r.End = p.key()
		return r
	}
}

// value picks one of few, so that sorting by value meets equal ones, now and then a large one.
func (p *pair) value() []byte {
	if p.rng.IntN(50) == 0 {
		return bytes.Repeat([]byte{'v'}, 5000)
	}
	return []byte(strconv.Itoa(p.rng.IntN(10)))
}

func (p *pair) request(revision kv.Revision) *kv.RangeRequest {
	q := &kv.RangeRequest{KeyRange: p.keyRange()}
	if p.rng.IntN(2) == 0 {
		q.Revision = kv.Revision(p.rng.Int64N(int64(revision) + 2))
	}
	if p.rng.IntN(2) == 0 {
		q.Limit = int64(p.rng.IntN(6))
	}
	if p.rng.IntN(3) == 0 {
		q.SortOrder, q.SortTarget = kv.SortOrder(p.rng.IntN(3)), kv.SortTarget(p.rng.IntN(5))
	}
	q.KeysOnly, q.CountOnly = p.rng.IntN(4) == 0, p.rng.IntN(8) == 0
	if p.rng.IntN(4) == 0 {
		for _, f := range []*kv.Revision{&q.MinMod, &q.MaxMod, &q.MinCreate, &q.MaxCreate} {
			if p.rng.IntN(3) == 0 {
				*f = kv.Revision(p.rng.Int64N(int64(revision) + 1))
			}
		}
	}
	return q
}

// run does one run of commands on both sides and returns it unpublished.
func (p *pair) run() {
	batch := p.st.NewBatch()
	run := p.s.Begin(batch)
	defer run.Drop()
	if p.rng.IntN(2) == 0 {
		run.Bare()
	}
	for range 1 + p.rng.IntN(6) {
		if p.rng.IntN(12) == 0 {
			rev := kv.Revision(p.rng.Int64N(int64(p.m.revision) + 2))
			if got, want := run.Compact(rev), p.m.compact(rev); got != want {
				p.t.Fatalf("compact %s: %v, not %v", rev, got, want)
			}
			continue
		}
		p.command(run)
	}
	if err := run.Seal(); err != nil {
		p.t.Fatal(err)
	}
	p.index++
	batch.SetApplied(p.index, 1, []byte("conf"))
	if err := batch.Commit(); err != nil {
		p.t.Fatal(err)
	}
	run.Publish()
	if err := batch.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.saved[p.index] = p.m.clone()
	for _, c := range run.Changes() {
		p.compareChange(c)
	}
}

func (p *pair) command(run *Run) {
	c, mc := run.Command(), p.m.command()
	// The API refuses a transaction that puts a key twice, or after deleting it; a deletion after a put can slip through.
	var touched [][]byte
	touches := func(r kv.KeyRange) bool { return slices.ContainsFunc(touched, r.Contains) }
	for range 1 + p.rng.IntN(4) {
		switch p.rng.IntN(6) {
		case 0, 1, 2:
			k, v, lease := p.key(), p.value(), kv.LeaseID(p.rng.IntN(3))
			if touches(kv.KeyRange{Key: k}) {
				continue
			}
			touched = append(touched, k)
			old := p.m.newest(k, mc.rev.Main)
			mc.put(k, v, lease)
			lived := old != nil && !old.tombstone
			if p.rng.IntN(2) == 0 {
				got, from := c.Set(k, v, lease, false)
				if run.bare && lived && old.rev.Main < mc.rev.Main && got != nil || lived && from != old.v.Lease || !lived && from != 0 {
					p.t.Fatalf("put %q: previous row %x, lease %d, not %+v", k, got, from, old)
				}
				continue
			}
			got := c.Put(k, v, lease)
			if old != nil && !old.tombstone != (got != nil) || old != nil && !old.tombstone && !bytes.Equal(got, old.row()) {
				p.t.Fatalf("put %q: previous row %x, not %+v", k, got, old)
			}
		case 3:
			r := p.keyRange()
			want := p.m.live(r, mc.rev.Main)
			for _, v := range want {
				touched = append(touched, v.Key)
			}
			var prev []kv.KeyValue
			n := c.DeleteRange(r, func(row []byte) { prev = append(prev, decode(p.t, bytes.Clone(row))) })
			if mc.deleteRange(r) != n || !equalRows(prev, want) {
				p.t.Fatalf("delete %q: %d keys %+v, not %+v", r, n, prev, want)
			}
		case 4:
			q := p.request(c.Revision())
			got, err := c.Range(q)
			p.compareRange(q, got, err, c.Revision())
		case 5:
			k := p.key()
			stands := c.Stands(k)
			got, ok := c.Get(k)
			want := p.m.newest(k, mc.rev.Main)
			if ok != (want != nil && !want.tombstone) || ok && !bytes.Equal(got, want.row()) {
				p.t.Fatalf("get %q in a command: %x, not %+v", k, got, want)
			}
			present := kv.KeyValue{}
			if ok {
				present = decode(p.t, got)
				present.Value = nil
			}
			if !reflect.DeepEqual(stands, present) {
				p.t.Fatalf("%q stands as %+v in a command, not %+v", k, stands, present)
			}
		}
	}
	mc.end()
	if got := c.End(); got != p.m.revision {
		p.t.Fatalf("command ended at revision %s, not %s", got, p.m.revision)
	}
}

func decode(t testing.TB, row []byte) kv.KeyValue {
	v, err := kv.DecodeKeyValue(row)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func equalRows(a, b []kv.KeyValue) bool {
	return slices.EqualFunc(a, b, func(a, b kv.KeyValue) bool { return bytes.Equal(a.Append(nil), b.Append(nil)) })
}

func (p *pair) compareRange(q *kv.RangeRequest, got *kv.RangeResult, err error, revision kv.Revision) {
	p.t.Helper()
	rows, count, more, want := p.m.rangeAt(q, revision)
	if err != want {
		p.t.Fatalf("range %+v at %s: error %v, not %v", q, revision, err, want)
	}
	if err != nil {
		return
	}
	var all []kv.KeyValue
	for row := range got.Rows.All() {
		all = append(all, decode(p.t, row))
	}
	if got.Revision != revision || got.Count != count || got.More != more || !equalRows(all, rows) {
		p.t.Fatalf("range %+v at %s (compacted %s):\n got revision %s count %d more %t %+v\nwant count %d more %t %+v",
			q, revision, p.m.compacted, got.Revision, got.Count, got.More, all, count, more, rows)
	}
}

// compareChange holds what a run told about a revision against what watchers would read of it later. The lease before
// a change is that of the row it replaced, for those who keep leases.
func (p *pair) compareChange(c kv.Change) {
	want := p.m.clone()
	want.compacted = -1
	events := want.events(kv.Rev{Main: c.Revision}, c.Revision)
	for i := range c.Events {
		if e := &c.Events[i]; e.NoPrev && e.Prev == nil { // whoever wants it reads it
			e.Prev, e.NoPrev = events[min(i, len(events)-1)].Prev, false
		}
	}
	if !equalEvents(c.Events, events) {
		p.t.Fatalf("change of revision %s:\n got %+v\nwant %+v", c.Revision, c.Events, events)
	}
	for _, e := range c.Events {
		lease := kv.LeaseID(0)
		for i := range p.m.changes {
			if old := &p.m.changes[i]; old.rev.Less(e.Rev) && bytes.Equal(old.v.Key, e.Key) {
				lease = old.v.Lease
			}
		}
		if e.PrevLease != lease {
			p.t.Fatalf("event %+v replaced a row with lease %d", e, lease)
		}
	}
}

// equalEvents compares all but the lease before.
func equalEvents(a, b []kv.Event) bool {
	return slices.EqualFunc(a, b, func(a, b kv.Event) bool {
		a.PrevLease, b.PrevLease = 0, 0
		return reflect.DeepEqual(a, b)
	})
}

// compareReads asks one random thing of each kind.
func (p *pair) compareReads() {
	ctx := context.Background()
	q := p.request(p.m.revision)
	got, err := p.s.Range(ctx, q)
	p.compareRange(q, got, err, p.m.revision)

	from := kv.Rev{Main: kv.Revision(p.rng.Int64N(int64(p.m.revision) + 1)), Sub: p.rng.Int64N(2)}
	if scheduled, finished := p.s.Compaction(); scheduled != finished && from.Main == scheduled {
		// What the compacted revision itself superseded shows until the compaction is complete.
		from.Main++
	}
	events, err := p.allEvents(from, p.m.revision)
	if from.Main < p.m.compacted {
		if err != ErrCompacted {
			p.t.Fatalf("events from %s, compacted %s: %v", from, p.m.compacted, err)
		}
	} else if want := p.m.events(from, p.m.revision); err != nil || !equalEvents(events, want) {
		p.t.Fatalf("events from %s, compacted %s (%v):\n got %+v\nwant %+v", from, p.m.compacted, err, events, want)
	}
}

func (p *pair) allEvents(from kv.Rev, upTo kv.Revision) (all []kv.Event, err error) {
	for from.Main <= upTo {
		events, next, err := p.s.Events(from, upTo, 1+p.rng.IntN(200), true)
		if err != nil {
			return nil, err
		}
		all, from = append(all, events...), next
	}
	return all, nil
}

// compactTables makes every deletion meet what it deletes.
func (p *pair) compactTables() {
	if err := errors.Join(p.st.Flush(), p.st.Compact(context.Background())); err != nil {
		p.t.Fatal(err)
	}
}

// finishCompaction runs the compactor to its end.
func (p *pair) finishCompaction() {
	for done := false; !done; {
		var err error
		if done, err = p.s.CompactStep(1 + p.rng.IntN(20)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// compareAll compares everything there is to see once compactions are complete.
func (p *pair) compareAll() {
	p.finishCompaction()
	if p.s.Revision() != p.m.revision || p.s.Compacted() != p.m.compacted {
		p.t.Fatalf("revision %s compacted %s, not %s and %s", p.s.Revision(), p.s.Compacted(), p.m.revision, p.m.compacted)
	}
	if got, want := p.s.Keys(), int64(len(p.m.live(everything, p.m.revision))); got != want {
		p.t.Fatalf("%d keys, not %d", got, want)
	}
	if got, want := p.s.SizeInUse(), p.m.size(p.m.compacted); got != want {
		p.t.Fatalf("size in use %d, not %d", got, want)
	}
	for rev := max(p.m.compacted, 1); rev <= p.m.revision; rev++ {
		q := &kv.RangeRequest{KeyRange: everything, Revision: rev}
		got, err := p.s.Range(context.Background(), q)
		p.compareRange(q, got, err, p.m.revision)
		p.compareHash(rev)
	}
	p.compareRows()
}

func (p *pair) compareHash(rev kv.Revision) {
	// The remembered answers are of another time.
	if _, ok := p.s.hashes.get(rev); ok {
		return
	}
	got, err := p.s.HashKV(context.Background(), rev)
	want := Hash{Sum: p.m.hash(rev, p.m.compacted, p.m.compacted, false), Revision: rev, Compact: p.m.compacted}
	if err != nil || got != want {
		p.t.Fatalf("hash at %s: %+v (%v), not %+v", rev, got, err, want)
	}
}

// compareRows compares the retained rows one by one.
func (p *pair) compareRows() {
	e, err := p.s.Export()
	if err != nil {
		p.t.Fatal(err)
	}
	want := p.m.retained(p.m.compacted)
	for row, err := range e.Rows() {
		if err != nil {
			p.t.Fatal(err)
		}
		if len(want) == 0 || row.Rev != want[0].rev || row.Tombstone != want[0].tombstone ||
			!bytes.Equal(row.Encoded, want[0].row()) {
			p.t.Fatalf("export has row %+v, want %+v", row, want)
		}
		want = want[1:]
	}
	if len(want) > 0 || e.Scheduled != p.m.compacted || e.Finished != p.m.compacted || e.Revision() != p.m.revision {
		p.t.Fatalf("export lacks %+v, or %+v is wrong", want, e)
	}
	if err := e.Close(); err != nil {
		p.t.Fatal(err)
	}
}

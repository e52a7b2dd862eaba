package mvcc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
)

// TestCounts: counts are exact for thousands of keys, in many blocks of the census, at old revisions as at new ones, in
// pages, through crashes and an import.
func TestCounts(t *testing.T) {
	p := newPair(t, seedOf(t))
	p.keys = nil
	for i := range 1600 {
		p.keys = append(p.keys, fmt.Appendf(nil, "key/%d", p.rng.IntN(10*(i+1))))
	}
	for round := range 5 {
		p.fill()
		for range 8 {
			p.run()
			for range 4 {
				p.compareCount()
			}
			p.comparePages()
			if p.rng.IntN(4) == 0 {
				p.finishCompaction()
			}
		}
		switch round {
		case 1, 3:
			if err := p.st.Flush(); err != nil {
				t.Fatal(err)
			}
			p.run()
			fs := p.fs.CrashClone(vfs.CrashCloneCfg{})
			p.close()
			p.fs = fs
			p.open()
		case 2:
			p.transfer()
		}
	}
	if got, want := p.s.Keys(), int64(len(p.m.live(everything, p.m.revision))); got != want {
		t.Fatalf("%d keys, not %d", got, want)
	}
	p.close()
}

// fill puts most of the keys, in one command.
func (p *pair) fill() {
	batch := p.st.NewBatch()
	run := p.s.Begin(batch)
	c, mc := run.Command(), p.m.command()
	done := map[string]bool{}
	for _, k := range p.keys {
		if !done[string(k)] && p.rng.IntN(4) > 0 {
			c.Put(k, []byte("v"), 0)
			mc.put(k, []byte("v"), 0)
		}
		done[string(k)] = true
	}
	c.End()
	mc.end()
	p.index++
	batch.SetApplied(p.index, 1, nil)
	if err := errors.Join(run.Seal(), batch.Commit(), batch.Close()); err != nil {
		p.t.Fatal(err)
	}
	run.Publish()
	p.saved[p.index] = p.m.clone()
}

// compareCount counts a random range at a random revision near the newest.
func (p *pair) compareCount() {
	q := &kv.RangeRequest{KeyRange: p.keyRange(), CountOnly: true}
	q.Revision = max(p.m.revision-kv.Revision(p.rng.IntN(20)), 1)
	got, err := p.s.Range(context.Background(), q)
	p.compareRange(q, got, err, p.m.revision)
}

// comparePages reads everything in pages at one revision, while others write.
func (p *pair) comparePages() {
	q := &kv.RangeRequest{KeyRange: everything, Limit: 400}
	for at := kv.Revision(0); ; q.Revision = at {
		got, err := p.s.Range(context.Background(), q)
		p.compareRange(q, got, err, p.m.revision)
		if err != nil || !got.More {
			return
		}
		if at == 0 {
			at = got.Revision
		}
		for row := range got.Rows.All() {
			q.Key = append(keyOf(row), 0)
		}
		p.run()
	}
}

// countAt counts all keys at a revision.
func countAt(t testing.TB, s interface {
	Range(*kv.RangeRequest) (*kv.RangeResult, error)
}, at kv.Revision) int64 {
	t.Helper()
	r, err := s.Range(&kv.RangeRequest{KeyRange: everything, Revision: at, CountOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	return r.Count
}

// outside makes a Store answer as a Command does.
type outside struct{ *Store }

func (o outside) Range(q *kv.RangeRequest) (*kv.RangeResult, error) {
	return o.Store.Range(context.Background(), q)
}

// TestCountPastCompaction: a census remembered from below a compaction is no way to a revision above it: what happened
// in between is no longer known.
func TestCountPastCompaction(t *testing.T) {
	st, s := openMem(t)
	const keys = 1000
	write(t, st, s, func(c *Command) { putKeys(c, 0, keys) })
	s.past.Remember(s.Revision(), s.published.Load().census)
	write(t, st, s, func(c *Command) { c.DeleteRange(kv.KeyRange{Key: countKey(10), End: countKey(20)}, nil) })
	for range 50 {
		write(t, st, s, func(c *Command) { putKeys(c, 0, 1) })
	}
	const at = 4 // nearer to the remembered 2 than to the newest
	compactAt(t, st, s, at)
	for done := false; !done; {
		var err error
		if done, err = s.CompactStep(1000); err != nil {
			t.Fatal(err)
		}
	}
	if n := countAt(t, outside{s}, at); n != keys-10 {
		t.Fatalf("%d keys at %d, not %d", n, at, keys-10)
	}
}

// TestCountInsideRun: each revision of a run that is not published has its own count.
func TestCountInsideRun(t *testing.T) {
	st, s := openMem(t)
	write(t, st, s, func(c *Command) { putKeys(c, 0, 1000) })
	batch := st.NewBatch()
	run := s.Begin(batch)
	want := map[kv.Revision]int64{1: 0, 2: 1000}
	for i := range 6 {
		c := run.Command()
		if i%2 == 0 {
			putKeys(c, 1000+100*i, 1100+100*i)
			want[c.Revision()] = want[c.Revision()-1] + 100
		} else {
			c.DeleteRange(kv.KeyRange{Key: countKey(10 * i), End: countKey(10*i + 10)}, nil)
			want[c.Revision()] = want[c.Revision()-1] - 10
		}
		for rev := kv.Revision(1); rev <= c.Revision(); rev++ {
			if n := countAt(t, c, rev); n != want[rev] {
				t.Errorf("command %d: %d keys at %s, not %d", i, n, rev, want[rev])
			}
		}
		c.End()
	}
	if err := errors.Join(run.Seal(), batch.Commit(), batch.Close()); err != nil {
		t.Fatal(err)
	}
	run.Publish()
	for rev, n := range want {
		if got := countAt(t, outside{s}, rev); got != n {
			t.Errorf("%d keys at %s, not %d", got, rev, n)
		}
	}
}

// TestCountHugeRevision: a revision that changed very many keys is not gone over to count few.
func TestCountHugeRevision(t *testing.T) {
	st, s := openMem(t)
	write(t, st, s, func(c *Command) { putKeys(c, 0, 9000) })
	before := s.Revision()
	write(t, st, s, func(c *Command) { c.DeleteRange(kv.KeyRange{Key: countKey(0), End: countKey(6000)}, nil) })
	if n := countAt(t, outside{s}, before); n != 9000 {
		t.Fatalf("%d keys", n)
	}
	if rev, v := s.past.Nearest(before); v != nil {
		t.Fatalf("went over 6000 changes to make a census of revision %s", rev)
	}
}

// putKeys puts the keys [from, to).
func putKeys(c *Command, from, to int) {
	for i := from; i < to; i++ {
		c.Put(countKey(i), []byte("v"), 0)
	}
}

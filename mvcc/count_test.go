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

package mvcc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// TestImport: a store filled from another one's export is the same store, whether its compaction was complete or not.
func TestImport(t *testing.T) {
	p := newPair(t, seedOf(t))
	for range 80 {
		p.run()
		if p.rng.IntN(10) == 0 {
			p.finishCompaction()
		}
	}
	p.transfer()
	p.compareAll()
	for range 20 {
		p.run()
	}
	p.compareAll()
	p.close()
}

// transfer moves the pair into a new store by export and import.
func (p *pair) transfer() {
	export, err := p.s.Export()
	if err != nil {
		p.t.Fatal(err)
	}
	fs := vfs.NewCrashableMem()
	st, err := storage.Open(storage.Config{FS: fs, Dir: "store"})
	if err != nil {
		p.t.Fatal(err)
	}
	imp, err := NewImport(st)
	if err != nil {
		p.t.Fatal(err)
	}
	for row, err := range export.Rows() {
		if err == nil {
			err = imp.Add(row)
		}
		if err == nil && p.rng.IntN(20) == 0 {
			err = imp.commit()
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	if err := imp.Finish(export.Scheduled, export.Finished); err != nil {
		p.t.Fatal(err)
	}
	if err := imp.Close(); err != nil {
		p.t.Fatal(err)
	}
	if err := export.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.close()
	p.fs, p.st, p.index = fs, st, 0
	p.saved = map[kv.Index]*model{0: p.m}
	if p.s, err = Open(st, Config{}); err != nil {
		p.t.Fatal(err)
	}
}

// TestImportRaisedRevision: the row without a key that etcd's restore adds to raise the revision is counted by the
// hash, gives the store its revision, and is no key.
func TestImportRaisedRevision(t *testing.T) {
	st, err := storage.Open(storage.Config{FS: vfs.NewMem(), Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	imp, err := NewImport(st)
	if err != nil {
		t.Fatal(err)
	}
	v := kv.KeyValue{Key: []byte("a"), Value: []byte("1"), Create: 2, Mod: 2, Version: 1}
	for _, row := range []Row{{Rev: kv.Rev{Main: 2}, Encoded: v.Append(nil)}, {Rev: kv.Rev{Main: 1000}}} {
		if err := imp.Add(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := imp.Add(Row{Rev: kv.Rev{Main: 7}}); err == nil {
		t.Fatal("a row out of order was taken")
	}
	if err := imp.Finish(1000, NeverCompacted); err != nil {
		t.Fatal(err)
	}
	if err := imp.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(st, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Revision() != 1000 || s.Compacted() != 1000 || s.Keys() != 1 {
		t.Fatalf("revision %s compacted %s keys %d", s.Revision(), s.Compacted(), s.Keys())
	}
	events, _, err := s.Events(kv.Rev{Main: 1000}, 1000, 1<<20, true)
	if err != nil || len(events) != 1 || len(events[0].Key) != 0 {
		t.Fatalf("events %+v (%v)", events, err)
	}
	if _, err := NewImport(st); err == nil {
		t.Fatal("a store that is not empty was taken")
	}
}

// TestImportCounts: a tombstone of a key that did not live and a row without a key, as etcd's tools may leave them, are
// changes that no count at an older revision may correct for.
func TestImportCounts(t *testing.T) {
	const keys = 100
	st, err := storage.Open(storage.Config{FS: vfs.NewMem(), Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	imp, err := NewImport(st)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(keys) {
		v := kv.KeyValue{Key: fmt.Appendf(nil, "k%02d", i), Create: 2, Mod: 2, Version: 1}
		if err := imp.Add(Row{Rev: kv.Rev{Main: 2, Sub: i}, Encoded: v.Append(nil)}); err != nil {
			t.Fatal(err)
		}
	}
	ghost := Row{Rev: kv.Rev{Main: 3}, Tombstone: true, Encoded: appendTombstone(nil, []byte("k50x"))}
	err = errors.Join(imp.Add(ghost), imp.Add(Row{Rev: kv.Rev{Main: 4}}), imp.Finish(NeverCompacted, NeverCompacted), imp.Close())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(st, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for rev := kv.Revision(2); rev <= 4; rev++ {
		q := &kv.RangeRequest{KeyRange: everything, Revision: rev, CountOnly: true}
		if r, err := s.Range(context.Background(), q); err != nil || r.Count != keys {
			t.Errorf("%d keys at %s (%v), not %d", r.Count, rev, err, keys)
		}
	}
	if n := s.Keys(); n != keys || s.Revision() != 4 {
		t.Errorf("%d keys at %s", n, s.Revision())
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

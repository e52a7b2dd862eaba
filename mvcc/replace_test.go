package mvcc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

// history is a key space in which revision r put the key "k" and one of ten others with the value r.
type history struct {
	t  testing.TB
	fs vfs.FS
	st *storage.Store
	s  *Store
}

func newHistory(t testing.TB, fs vfs.FS) *history {
	h := &history{t: t, fs: fs}
	h.st, h.s = openAt(t, fs, "history")
	return h
}

func openAt(t testing.TB, fs vfs.FS, dir string) (*storage.Store, *Store) {
	t.Helper()
	st, err := storage.Open(storage.Config{FS: fs, Dir: dir, CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(st, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return st, s
}

// runTo puts up to revision to.
func (h *history) runTo(to kv.Revision) {
	for h.s.Revision() < to {
		b := h.st.NewBatch()
		run := h.s.Begin(b)
		cmd := run.Command()
		value := fmt.Append(nil, int64(cmd.Revision()+1))
		cmd.Put([]byte("k"), value, 0)
		cmd.Put(fmt.Appendf(nil, "other%d", cmd.Revision()%10), value, 0)
		cmd.End()
		h.publish(b, run)
	}
}

func (h *history) compact(rev kv.Revision, steps int) {
	b := h.st.NewBatch()
	run := h.s.Begin(b)
	if err := run.Compact(rev); err != nil {
		h.t.Fatal(err)
	}
	h.publish(b, run)
	for range steps {
		if _, err := h.s.CompactStep(100); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *history) publish(b *storage.Batch, run *Run) {
	if err := errors.Join(run.Seal(), b.Commit()); err != nil {
		h.t.Fatal(err)
	}
	run.Publish()
	if err := b.Close(); err != nil {
		h.t.Fatal(err)
	}
}

// save keeps the present state in a directory of its own.
func (h *history) save(dir string) {
	if err := h.st.Checkpoint(dir); err != nil {
		h.t.Fatal(err)
	}
}

// TestReplace puts a later state, compacted meanwhile, in the place of one that is read from all sides: what readers get
// belongs to the revision they are told, before, after and in the moment between. After it the store compacts on where
// the new state had come to.
func TestReplace(t *testing.T) {
	fs := vfs.NewMem()
	h := newHistory(t, fs)
	const old, compacted, newest = 120, 300, 400
	h.runTo(old)
	h.save("old")
	h.runTo(newest)
	h.compact(compacted, 2) // the hash, and a part of the removal
	h.save("new")
	wantHash, err := h.s.HashKV(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if _, err := vfs.Clone(fs, fs, "old", "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := vfs.Clone(fs, fs, "new", "b"); err != nil {
			t.Fatal(err)
		}
		st, s := openAt(t, fs, "a")
		_, next := openAt(t, fs, "b")
		done := s.CompactDone(compacted)
		readWhile(t, s, func() { s.Replace(next) })
		if s.Revision() != newest || s.Compacted() != compacted || s.Keys() != 11 {
			t.Fatalf("revision %s compacted %s keys %d", s.Revision(), s.Compacted(), s.Keys())
		}
		for ready := false; !ready; {
			if ready, err = s.CompactStep(100); err != nil {
				t.Fatal(err)
			}
		}
		<-done
		if got, err := s.HashKV(t.Context(), 0); err != nil || got != wantHash {
			t.Fatalf("hash %+v, want %+v (%v)", got, wantHash, err)
		}
		after := &history{t: t, st: st, s: s}
		after.runTo(newest + 5)
		checkRead(t, s, 0)
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := fs.Stat("a"); err == nil {
			t.Fatal("the old state is still there")
		}
		if err := fs.RemoveAll("b"); err != nil {
			t.Fatal(err)
		}
	}
}

// readWhile reads s from all sides until do has returned.
func readWhile(t *testing.T, s *Store, do func()) {
	var stop atomic.Bool
	var reading, readers sync.WaitGroup
	for i := range 4 {
		reading.Add(1)
		readers.Go(func() {
			for n := 0; n < 5 || !stop.Load(); n++ {
				checkRead(t, s, kv.Revision(n%400)*kv.Revision(i%2))
				if n == 4 {
					reading.Done()
				}
			}
		})
	}
	reading.Wait()
	do()
	stop.Store(true)
	readers.Wait()
}

// checkRead reads at a revision, 0 for the newest, what every reader may ask for.
func checkRead(t testing.TB, s *Store, rev kv.Revision) {
	got, err := s.Range(context.Background(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k")}, Revision: rev})
	if err != nil {
		if rev == 0 || !errors.Is(err, ErrCompacted) && !errors.Is(err, ErrFutureRevision) {
			t.Errorf("get at %d: %v", rev, err)
		}
		return
	}
	at := rev
	if at == 0 {
		at = got.Revision
	}
	for row := range got.Rows.All() {
		if v, err := kv.DecodeKeyValue(row); err != nil || string(v.Value) != fmt.Sprint(int64(at)) {
			t.Errorf("at revision %d k is %q (%v)", at, v.Value, err)
		}
	}
	if got.Count != 1 && at > 1 {
		t.Errorf("at revision %d there are %d keys k", at, got.Count)
	}
	all, err := s.Range(context.Background(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("a"), End: []byte("z")}, Revision: rev, CountOnly: true})
	if err == nil && all.Revision > 20 && rev == 0 && all.Count != 11 {
		t.Errorf("at revision %d there are %d keys", all.Revision, all.Count)
	}
	if err != nil && (rev == 0 || !errors.Is(err, ErrCompacted)) {
		t.Errorf("count at %d: %v", rev, err)
	}
	if rev == 0 {
		return
	}
	events, _, err := s.Events(kv.Rev{Main: rev}, rev, 1<<20, true)
	if err != nil && !errors.Is(err, ErrCompacted) || err == nil && len(events) != 2 && rev > 1 {
		t.Errorf("events of %d: %d (%v)", rev, len(events), err)
	}
}

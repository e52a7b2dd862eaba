package mvcc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/kv"
	"holdfast/storage"
	"holdfast/storage/storagetest"
)

func openMem(t testing.TB) (*storage.Store, *Store) {
	t.Helper()
	return openMemWith(t, Config{})
}

func openMemWith(t testing.TB, cfg Config) (*storage.Store, *Store) {
	t.Helper()
	st := storagetest.Open(t)
	s, err := Open(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return st, s
}

// write runs do as one command in a run of its own and returns what it changed.
func write(t testing.TB, st *storage.Store, s *Store, do func(c *Command)) []kv.Change {
	t.Helper()
	batch := st.NewBatch()
	run := s.Begin(batch)
	defer run.Drop()
	c := run.Command()
	do(c)
	c.End()
	if err := run.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(batch.Commit(), batch.Close()); err != nil {
		t.Fatal(err)
	}
	run.Publish()
	return run.Changes()
}

// TestLargeDelete: a deletion of very many keys is exact in the overlay, carries no events in memory, and is read back
// whole from the store.
func TestLargeDelete(t *testing.T) {
	const keys = 3 * eventsMax
	st, s := openMem(t)
	key := func(i int) []byte { return fmt.Appendf(nil, "k%06d", i) }
	write(t, st, s, func(c *Command) {
		for i := range keys {
			c.Put(key(i), []byte("v"), 0)
		}
	})
	// A reader makes the cache know a key that is going to be deleted.
	get := func(i int) int64 {
		r, err := s.Range(context.Background(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: key(i)}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Count
	}
	if get(100) != 1 || get(keys-1) != 1 {
		t.Fatal("keys are missing")
	}
	all := kv.KeyRange{Key: []byte("k"), End: []byte("l")}
	changes := write(t, st, s, func(c *Command) {
		c.Put([]byte("k"), []byte("new"), 0)
		prevs := 0
		if n := c.DeleteRange(kv.KeyRange{Key: key(0), End: key(keys - 1)}, func([]byte) { prevs++ }); n != keys-1 || prevs != keys-1 {
			t.Fatalf("deleted %d keys, told of %d", n, prevs)
		}
		if _, ok := c.Get(key(100)); ok {
			t.Fatal("a deleted key is still there")
		}
		c.Put([]byte("k000100x"), []byte("again"), 0)
		r, err := c.Range(&kv.RangeRequest{KeyRange: all})
		if err != nil || r.Count != 3 {
			t.Fatalf("%d keys in the command (%v)", r.Count, err)
		}
		before, err := c.Range(&kv.RangeRequest{KeyRange: all, Revision: 2, CountOnly: true})
		if err != nil || before.Count != keys {
			t.Fatalf("%d keys before the command (%v)", before.Count, err)
		}
		if n := c.DeleteRange(kv.KeyRange{Key: key(0), End: key(keys - 1)}, nil); n != 1 {
			t.Fatalf("deleted %d keys again", n)
		}
	})
	if len(changes) != 1 || !changes[0].Large || changes[0].Events != nil {
		t.Fatalf("change %+v", changes)
	}
	if get(100) != 0 || get(keys-1) != 1 || s.Keys() != 2 {
		t.Fatalf("%d keys left", s.Keys())
	}
	n, from := 0, kv.Rev{Main: 3}
	for from.Main <= 3 {
		events, next, err := s.Events(from, 3, 10_000, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Rev != (kv.Rev{Main: 3, Sub: int64(n)}) {
				t.Fatalf("event %d at %s", n, e.Rev)
			}
			n++
		}
		from = next
	}
	if n != keys+2 {
		t.Fatalf("%d events, not %d", n, keys+2)
	}
}

// TestReadersDuringWrites: readers see whole commands only, at any moment and through compactions. Every command sets
// all keys to the same number, so a mixture would show.
func TestReadersDuringWrites(t *testing.T) {
	const keys, commands = 20, 600
	st, s := openMem(t)
	set := func(n int) {
		write(t, st, s, func(c *Command) {
			for i := range keys {
				c.Put(fmt.Appendf(nil, "k%02d", i), fmt.Appendf(nil, "%d", n), 0)
			}
		})
	}
	set(0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for r := range 3 {
		wg.Go(func() {
			for seen := kv.Revision(0); ; {
				select {
				case <-done:
					return
				default:
				}
				rev, err := readWhole(s, keys, r)
				if err != nil || rev < seen {
					t.Errorf("reader at %s after %s: %v", rev, seen, err)
					return
				}
				seen = rev
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := s.CompactStep(50); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range commands {
		set(n + 1)
		if n%20 == 19 {
			compactAt(t, st, s, s.Revision()-kv.Revision(n%3))
		}
		if n%100 == 99 {
			if err := st.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	wg.Wait()
}

func compactAt(t testing.TB, st *storage.Store, s *Store, rev kv.Revision) {
	t.Helper()
	batch := st.NewBatch()
	run := s.Begin(batch)
	if err := run.Compact(rev); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(run.Seal(), batch.Commit(), batch.Close()); err != nil {
		t.Fatal(err)
	}
	run.Publish()
}

// readWhole reads all keys, at the newest revision or a little before, in one list or key by key, and compares them.
func readWhole(s *Store, keys, how int) (kv.Revision, error) {
	ctx := context.Background()
	q := &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k"), End: []byte("l")}}
	if how == 1 {
		q.Revision = max(s.Revision()-2, 2)
	}
	r, err := s.Range(ctx, q)
	if how == 1 && err == ErrCompacted {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if r.Count != int64(keys) {
		return 0, fmt.Errorf("%d keys at %s", r.Count, r.Revision)
	}
	var first []byte
	var mod kv.Revision
	for row := range r.Rows.All() {
		v, err := kv.DecodeKeyValue(row)
		if err != nil {
			return 0, err
		}
		if first == nil {
			first, mod = v.Value, v.Mod
		}
		if string(v.Value) != string(first) || v.Mod != mod {
			return 0, fmt.Errorf("%s is %s of %s, the first key %s of %s", v.Key, v.Value, v.Mod, first, mod)
		}
	}
	if how != 2 {
		if how == 1 {
			return 0, nil
		}
		return r.Revision, nil
	}
	// The cache must give, for the revision of the list, what the list gave.
	one, err := s.Range(ctx, &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k07")}, Revision: r.Revision})
	if err == ErrCompacted {
		return r.Revision, nil
	}
	if err != nil {
		return 0, err
	}
	for row := range one.Rows.All() {
		if v, err := kv.DecodeKeyValue(row); err != nil || v.Mod != mod {
			return 0, fmt.Errorf("k07 of %s in a list at %s of %s (%v)", v.Mod, r.Revision, mod, err)
		}
	}
	return r.Revision, nil
}

// TestCompactedUnderReader: a reader whose revision is compacted, and partly removed, between its choice and its reading
// is told so; one that asked for the newest gets the newest.
func TestCompactedUnderReader(t *testing.T) {
	st, s := openMem(t)
	write(t, st, s, func(c *Command) {
		for i := range 100 { // enough for a count to ask the census
			c.Put(fmt.Appendf(nil, "k%d", i), []byte("v"), 0)
		}
	})
	for range 2 {
		write(t, st, s, func(c *Command) { c.Put([]byte("k"), []byte("v"), 0) })
	}
	before := view{s: s, now: s.published.Load(), at: 3, ctx: context.Background()}
	compactAt(t, st, s, 4)
	if _, err := s.CompactStep(1000); err != nil {
		t.Fatal(err)
	}
	for _, q := range []*kv.RangeRequest{
		{KeyRange: everything}, {KeyRange: kv.KeyRange{Key: []byte("k")}}, {KeyRange: everything, CountOnly: true},
	} {
		if _, err := answer(&before, q, &collector{q: q}); err != ErrCompacted {
			t.Fatalf("read of %+v: %v", q, err)
		}
	}
	r, err := s.Range(context.Background(), &kv.RangeRequest{KeyRange: everything})
	if err != nil || r.Count != 101 {
		t.Fatalf("%d keys (%v)", r.Count, err)
	}
}

// TestReadFailure: when the disk can not be read in the middle of a run, nothing of the run is published and the error
// comes out.
func TestReadFailure(t *testing.T) {
	injected := errors.New("injected")
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileReadAt {
			return injected
		}
		return nil
	}))
	st, err := storage.Open(storage.Config{FS: fs, Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(st, Config{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, st, s, func(c *Command) { c.Put([]byte("k"), []byte("v"), 0) })
	if err := st.Flush(); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	for name, act := range map[string]func(c *Command){
		"put":   func(c *Command) { c.Put([]byte("k"), []byte("w"), 0) },
		"range": func(c *Command) { c.DeleteRange(everything, nil) },
	} {
		batch := st.NewBatch()
		run := s.Begin(batch)
		c := run.Command()
		act(c)
		c.Put([]byte("other"), []byte("w"), 0)
		c.End()
		if err := run.Seal(); !errors.Is(err, injected) {
			t.Fatalf("%s: %v", name, err)
		}
		run.Drop()
		if err := batch.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Range(context.Background(), &kv.RangeRequest{KeyRange: everything}); !errors.Is(err, injected) {
		t.Fatalf("range: %v", err)
	}
	if s.Revision() != 2 {
		t.Fatalf("revision %s", s.Revision())
	}
	broken.Store(false)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRangeStops: a reader that gave up costs nothing more.
func TestRangeStops(t *testing.T) {
	st, s := openMem(t)
	write(t, st, s, func(c *Command) {
		for i := range 2 * checkEvery {
			c.Put(fmt.Appendf(nil, "k%06d", i), []byte("v"), 0)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Range(ctx, &kv.RangeRequest{KeyRange: everything})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("range: %v", err)
	}
	if _, err := s.HashKV(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Fatalf("hash: %v", err)
	}
}

// TestCompactDone: who waits for a physical compaction is told when it is complete, and not before.
func TestCompactDone(t *testing.T) {
	st, s := openMem(t)
	for range 5 {
		write(t, st, s, func(c *Command) { c.Put([]byte("k"), []byte("v"), 0) })
	}
	compactAt(t, st, s, 5)
	done := s.CompactDone(5)
	for steps := 0; ; steps++ {
		ready, err := s.CompactStep(1)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			if scheduled, finished := s.Compaction(); !ready || scheduled != 5 || finished != 5 || steps < 4 {
				t.Fatalf("told after %d steps, at %s of %s", steps, finished, scheduled)
			}
			<-s.CompactDone(5)
			return
		default:
		}
		if ready {
			t.Fatal("complete, and nobody was told")
		}
	}
}

// TestReclaim: what a compaction removed is given back to the disk, and only once.
func TestReclaim(t *testing.T) {
	st, s := openMem(t)
	value := make([]byte, 1<<20) // that does not compress
	rand.NewChaCha8([32]byte{}).Read(value)
	for range reclaimMin>>20 + 8 {
		write(t, st, s, func(c *Command) { c.Put([]byte("k"), value, 0) })
	}
	compactAt(t, st, s, s.Revision())
	for done := false; !done; {
		var err error
		if done, err = s.CompactStep(1000); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.Reclaim(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if size, inUse := st.Size(), s.SizeInUse(); size > 2<<20 || inUse > 2<<20 {
		t.Fatalf("%d bytes on disk, %d in use, for one value of a megabyte", size, inUse)
	}
	stats, err := st.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reclaim(context.Background()); err != nil {
		t.Fatal(err)
	}
	if again, err := st.Stats(); err != nil || again.Compactions != stats.Compactions {
		t.Fatalf("%d compactions of tables, then %d (%v)", stats.Compactions, again.Compactions, err)
	}
}

package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/kv"
)

func (s *Store) waiting() int {
	k := &s.gen.Load().kept
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.iters)
}

func lookup(t testing.TB, s *Store, mark kv.Revision) *Iter {
	t.Helper()
	it, err := s.Lookup(TableVersions, mark)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// newest returns the revision of the newest version of body up to at that it shows; 0 if there is none.
func newest(t testing.TB, it *Iter, body []byte, at kv.Revision) kv.Revision {
	t.Helper()
	if !it.SeekBodyVersion(body, kv.Rev{Main: at}) {
		if err := it.Err(); err != nil {
			t.Error(err)
		}
		return 0
	}
	value, err := it.Value()
	if err != nil {
		t.Error(err)
	}
	if rev := it.Rev().Main; string(it.Body()) != string(body) || kv.Revision(binary.BigEndian.Uint64(value)) != rev {
		t.Errorf("looked for %s, found %s at %s with %x", body, it.Body(), rev, value)
	}
	return it.Rev().Main
}

func writeVersion(t testing.TB, s *Store, body []byte, rev kv.Revision) {
	t.Helper()
	b := s.NewBatch()
	b.SetVersion(TableVersions, body, kv.Rev{Main: rev}, binary.BigEndian.AppendUint64(nil, uint64(rev)))
	commit(t, b)
}

// TestLookup: an iterator is used again as long as nothing new is asked for, and never by who must see more than it does.
func TestLookup(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	k := []byte("k")
	writeVersion(t, s, k, 1)
	first := lookup(t, s, 1)
	closeIter(t, first)
	if again := lookup(t, s, 1); again != first || newest(t, again, k, 9) != 1 {
		t.Error("an iterator was not used again, or shows something else")
	} else {
		closeIter(t, again)
	}
	writeVersion(t, s, k, 2)
	it := lookup(t, s, 2)
	if got := newest(t, it, k, 9); got != 2 {
		t.Errorf("revision 2 was committed, and %s is shown", got)
	}
	older := lookup(t, s, 1) // by who has not heard of 2 yet
	if got := newest(t, older, k, 1); got != 1 {
		t.Errorf("at revision 1 %s is shown", got)
	}
	closeIter(t, it)
	closeIter(t, older)
	if n := s.waiting(); n != 1 {
		t.Errorf("%d iterators wait; that for revision 1 is of no use any more", n)
	}
	if it := lookup(t, s, 1); newest(t, it, k, 1) != 1 || newest(t, it, k, 2) != 2 {
		t.Error("the iterator for 2 does not show what is older")
	} else {
		closeIter(t, it)
	}
}

// TestLookupBeside: while one goroutine commits and tells the mark, and now and then tables are flushed, merged and let go, others look keys up. Each
// sees exactly what was committed up to the mark that it was told.
func TestLookupBeside(t *testing.T) {
	const keys, commits, readers = 50, 3000, 4
	seed := rand.Uint64()
	defer func() { t.Logf("seed %d", seed) }()
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	key := func(n kv.Revision) []byte { return fmt.Appendf(nil, "key%d", n%keys) }
	var told atomic.Int64
	var wg sync.WaitGroup
	for i := range uint64(readers) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, i))
			for told.Load() < commits && !t.Failed() {
				mark := kv.Revision(told.Load())
				it, err := s.Lookup(TableVersions, mark)
				if err != nil {
					t.Error(err)
					return
				}
				for range random.IntN(3) {
					n, at := kv.Revision(random.IntN(keys)), mark-min(mark, kv.Revision(random.IntN(3)*keys))
					want := at - (at-n+keys)%keys
					if at < n || want < 1 {
						want = 0
					}
					if got := newest(t, it, key(n), at); got != want {
						t.Errorf("mark %s: key %s at %s is of %s, not %s", mark, key(n), at, got, want)
					}
				}
				if err := it.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, readers))
	for n := kv.Revision(1); n <= commits; n++ {
		writeVersion(t, s, key(n), n)
		told.Store(int64(n))
		var err error
		switch random.IntN(300) {
		case 0:
			err = s.Flush()
		case 1:
			err = s.Compact(context.Background())
		case 2, 3, 4:
			err = s.LetGo()
		}
		if err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// TestLookupLetsGo: what waits keeps tables from going, and no longer when it is let go. At most so many wait.
func TestLookupLetsGo(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	for rev := range kv.Revision(3) {
		writeVersion(t, s, []byte("k"), rev+1)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	most := keptPerProcessor * runtime.GOMAXPROCS(0)
	var all []*Iter
	for range most + 3 {
		all = append(all, lookup(t, s, 3))
	}
	for _, it := range all {
		newest(t, it, []byte("k"), 3)
		closeIter(t, it)
	}
	if n := s.waiting(); n != most {
		t.Errorf("%d iterators wait, not %d", n, most)
	}
	zombies := func() int64 { return s.gen.Load().db.Metrics().Table.ZombieCount }
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if zombies() == 0 {
		t.Error("what waits keeps nothing: the test shows nothing")
	}
	if err := s.LetGo(); err != nil {
		t.Fatal(err)
	}
	if n := zombies(); n != 0 || s.waiting() != 0 {
		t.Errorf("%d tables that were replaced are kept, and %d iterators", n, s.waiting())
	}
}

// TestLookupReplaced: what waits in a database that was replaced does not keep it, and nobody gets it any more.
func TestLookupReplaced(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	writeVersion(t, s, []byte("k"), 1)
	waits, used := lookup(t, s, 1), lookup(t, s, 1)
	closeIter(t, waits)
	next, err := Open(Config{FS: fs, Dir: "next"})
	if err != nil {
		t.Fatal(err)
	}
	writeVersion(t, next, []byte("k"), 2)
	old := s.gen.Load()
	s.Replace(next)
	if it := lookup(t, s, 1); newest(t, it, []byte("k"), 9) != 2 {
		t.Error("the database of before is shown")
	} else {
		closeIter(t, it)
	}
	if old.isClosed() {
		t.Error("the old database closed under its reader")
	}
	closeIter(t, used)
	<-old.closed
	if old.closeErr != nil {
		t.Error(old.closeErr)
	}
	closeStore(t, s) // with one that waits
}

// TestLookupFails: an iterator that met an error is not used again.
func TestLookupFails(t *testing.T) {
	injected := errors.New("injected")
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileReadAt {
			return injected
		}
		return nil
	}))
	s := open(t, fs)
	defer closeStore(t, s)
	writeVersion(t, s, []byte("k"), 1)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	it := lookup(t, s, 1)
	if it.SeekBodyVersion([]byte("k"), kv.Rev{Main: 1}) || it.Err() == nil {
		t.Error("a row was found on a disk that can not be read")
	}
	if err := it.Close(); err == nil || !strings.Contains(err.Error(), "injected") {
		t.Errorf("close: %v", err)
	}
	broken.Store(false)
	it = lookup(t, s, 1)
	defer closeIter(t, it)
	if got := newest(t, it, []byte("k"), 1); got != 1 {
		t.Errorf("%s is shown once the disk can be read", got)
	}
}

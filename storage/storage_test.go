package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/kv"
)

func open(t testing.TB, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open(Config{FS: fs, Dir: "store", CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func closeIter(t testing.TB, it *Iter) {
	t.Helper()
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, b *Batch) {
	t.Helper()
	if err := errors.Join(b.Commit(), b.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestFormatIsNewest fails when an update of Pebble brings a newer format: raise the constant on purpose then, and
// say in the release notes that there is no way back.
func TestFormatIsNewest(t *testing.T) {
	if format != pebble.FormatNewest {
		t.Fatalf("format is %s, Pebble's newest %s", format, pebble.FormatNewest)
	}
}

func TestBatch(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	b := s.NewBatch()
	for _, body := range []string{"a", "b", "c", "d"} {
		b.Set(TableLease.Key([]byte(body)), []byte("1"))
	}
	b.Set(TableLeaseKey.Key([]byte("a")), []byte("2"))
	if _, ok, err := s.Get(TableLease.Key([]byte("a"))); ok || err != nil {
		t.Fatalf("an open batch is visible (%v)", err)
	}
	commit(t, b)
	b = s.NewBatch()
	b.Delete(TableLease.Key([]byte("a")))
	b.DeleteRange(TableLease, []byte("c"), nil)
	commit(t, b)
	if got := dump(t, s, TableLease); got != "b=1 " {
		t.Fatalf("left in lease: %s", got)
	}
	if got := dump(t, s, TableLeaseKey); got != "a=2 " {
		t.Fatalf("left in lease_key: %s", got)
	}
}

func dump(t *testing.T, s *Store, table Table) (all string) {
	t.Helper()
	err := s.Each(table, func(body, value []byte) error {
		all += fmt.Sprintf("%s=%s ", body, value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestReaderOutlivesClose: a store closes when its last reader has, new readers are refused at once.
func TestReaderOutlivesClose(t *testing.T) {
	s := open(t, vfs.NewMem())
	b := s.NewBatch()
	b.Set(TableMeta.Key([]byte("k")), []byte("v"))
	commit(t, b)
	r, err := s.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for !s.gen.Load().closing.Load() {
		time.Sleep(time.Millisecond)
	}
	if _, err := s.NewReader(); err != ErrClosed {
		t.Fatalf("a new reader: %v", err)
	}
	if _, _, err := s.Get(TableMeta.Key([]byte("k"))); err != ErrClosed {
		t.Fatalf("a new get: %v", err)
	}
	if v, ok, err := r.Get(TableMeta.Key([]byte("k"))); !ok || string(v) != "v" || err != nil {
		t.Fatalf("the open reader sees %q %t (%v)", v, ok, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != ErrClosed {
		t.Fatalf("closed twice: %v", err)
	}
}

// TestReaderIsConsistent: what is committed after a view was opened does not show in it.
func TestReaderIsConsistent(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	set := func(index kv.Index) {
		b := s.NewBatch()
		b.SetApplied(index, 1, nil)
		b.Set(TableMeta.Key([]byte("k")), []byte(fmt.Sprint(index)))
		commit(t, b)
	}
	set(1)
	r, err := s.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	set(2)
	a, err := r.Applied()
	if err != nil || a.Index != 1 {
		t.Fatalf("applied %+v (%v)", a, err)
	}
	if v, _, err := r.Get(TableMeta.Key([]byte("k"))); string(v) != "1" || err != nil {
		t.Fatalf("k is %s (%v)", v, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFlushDue: bytes or age make a flush due, and a flush makes the cursor durable.
func TestFlushDue(t *testing.T) {
	now := time.Unix(1000, 0)
	s, err := Open(Config{FS: vfs.NewMem(), Dir: "store", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	write := func(index kv.Index, n int) {
		b := s.NewBatch()
		b.SetApplied(index, 7, []byte("conf"))
		b.Set(TableMeta.Key([]byte("k")), make([]byte, n))
		commit(t, b)
	}
	due := func(want bool) {
		t.Helper()
		if got := s.FlushDue(now); got != want {
			t.Fatalf("flush due: %t", got)
		}
	}
	flush := func() {
		t.Helper()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	due(false)
	write(1, 10)
	due(false)
	now = now.Add(FlushAge)
	due(true)
	if a, err := s.Durable(); err != nil || a.Index != 0 {
		t.Fatalf("durable before the flush: %+v (%v)", a, err)
	}
	flush()
	due(false)
	if a, err := s.Durable(); err != nil || a.Index != 1 || a.Term != 7 || string(a.ConfState) != "conf" {
		t.Fatalf("durable after the flush: %+v (%v)", a, err)
	}
	write(2, FlushBytesDefault)
	due(true)
	flush()
	if a, err := s.Durable(); err != nil || a.Index != 2 {
		t.Fatalf("durable: %+v (%v)", a, err)
	}
}

// TestFlushRuleIsFirst: what makes a flush due fits into one memtable with the overhead of its rows and a batch on top, which is no table of its own. Otherwise
// there would be more and smaller tables than are reckoned with.
func TestFlushRuleIsFirst(t *testing.T) {
	for _, c := range []struct {
		name         string
		value, batch int
	}{
		{"small rows", 48, 64 << 10}, {"large rows", 100 << 10, 4 << 20}, {"large batches", 1000, 4 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(Config{FS: vfs.NewMem(), Dir: "store"})
			if err != nil {
				t.Fatal(err)
			}
			defer closeStore(t, s)
			row := 0
			fill := func(bytes int64) (flushes int64) {
				for filled := 0; int64(filled) < bytes; {
					b := s.NewBatch()
					for ; b.Len() < c.batch; row++ {
						b.Set(TableMeta.Key(binary.BigEndian.AppendUint64(nil, uint64(row))), make([]byte, c.value))
					}
					filled += b.Len()
					commit(t, b)
				}
				stats, err := s.Stats()
				if err != nil {
					t.Fatal(err)
				}
				return stats.Flushes + int64(stats.MemTableBytes/MemTableBytesDefault) // those under way too
			}
			fill(2 * MemTableBytesDefault) // the first memtables are small
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			before := fill(0)
			if after := fill(FlushBytesDefault); after != before {
				t.Fatalf("Pebble has begun %d flushes before one was due", after-before)
			}
		})
	}
}

// TestFlushByItself: what Pebble flushes by itself makes no flush due, neither meanwhile nor afterwards; what came since counts. Then a flush of Pebble's own, which a
// store begins with its first 256 KB.
func TestFlushByItself(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	f := &s.gen.Load().flush
	expect := func(what string, due bool, unflushed int64) {
		t.Helper()
		if got := s.FlushDue(time.Time{}); got != due || s.Unflushed() != unflushed {
			t.Fatalf("%s: %d bytes, flush due: %t", what, s.Unflushed(), got)
		}
	}
	f.committed(FlushBytesDefault-1, nil)
	f.pebbleBegins()
	f.committed(10, nil)
	expect("while Pebble flushes", false, FlushBytesDefault+9)
	f.pebbleEnds(false)
	expect("after it failed", true, FlushBytesDefault+9)
	f.pebbleBegins()
	f.committed(FlushBytesDefault, nil)
	f.pebbleEnds(true)
	expect("after as much came meanwhile", true, FlushBytesDefault)
	f.pebbleBegins()
	f.pebbleEnds(true)
	expect("after one that may not hold the last batch", false, 1)

	end := f.begin()
	f.committed(20, nil)
	f.pebbleBegins()
	f.pebbleEnds(true)
	expect("after one that was asked for", false, 21)
	end(true)
	expect("after its end", false, 20)

	const batch = 200 << 10
	for range 5 {
		b := s.NewBatch()
		b.Set(TableMeta.Key([]byte("k")), make([]byte, batch))
		commit(t, b)
	}
	for deadline := time.Now().Add(time.Minute); s.Unflushed() >= 5*batch; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are dirty, whatever Pebble flushes by itself", s.Unflushed())
		}
	}
}

func TestSize(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	if s.Size() != SizeMin {
		t.Fatalf("empty store of %d bytes", s.Size())
	}
	b := s.NewBatch()
	value := make([]byte, 1<<20)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	b.Set(TableMeta.Key([]byte("k")), value)
	commit(t, b)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if s.Size() < 1<<20 {
		t.Fatalf("store of %d bytes holds a megabyte", s.Size())
	}
	if stats, err := s.Stats(); err != nil || stats.TableBytes < 1<<20 || stats.Flushes == 0 {
		t.Fatalf("stats %+v (%v)", stats, err)
	}
	if share := s.Behind(); share >= 0.2 {
		t.Fatalf("%.2f of what makes it congested", share)
	}
	b = s.NewBatch()
	b.DeleteRange(TableMeta, nil, nil)
	commit(t, b)
	if err := errors.Join(s.Flush(), s.Compact(context.Background())); err != nil {
		t.Fatal(err)
	}
	if s.Size() != SizeMin {
		t.Fatalf("store of %d bytes when everything is gone", s.Size())
	}
}

func TestCheckpoint(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	b := s.NewBatch()
	b.SetApplied(5, 2, nil)
	commit(t, b)
	if err := s.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	c, err := Open(Config{FS: fs, Dir: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Applied().Index != 5 {
		t.Fatalf("copy at %+v", c.Applied())
	}
	closeStore(t, c)
}

// TestCrash: a crash leaves the rows of whole batches, of all up to some index and of none after it.
func TestCrash(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	s := open(t, fs)
	index := kv.Index(0)
	for range 40 {
		for range rng.IntN(30) {
			index++
			b := s.NewBatch()
			b.SetApplied(index, 1, nil)
			// Two rows in different tables, some so large that Pebble gives the batch a memtable of its own.
			size := 100
			if rng.IntN(20) == 0 {
				size = 1 << 20
			}
			body := binary.BigEndian.AppendUint64(nil, uint64(index))
			b.Set(TableLease.Key(body), make([]byte, size))
			b.Set(TableAuth.Key(body), nil)
			commit(t, b)
		}
		durable := kv.Index(0)
		if rng.IntN(2) == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			durable = index
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		closeStore(t, s)
		fs = clone
		s = open(t, fs)
		index = s.Applied().Index
		if index < durable {
			t.Fatalf("at index %d after a crash, %d was durable", index, durable)
		}
		for _, table := range []Table{TableLease, TableAuth} {
			want := kv.Index(1)
			err := s.Each(table, func(body, _ []byte) error {
				if got := kv.Index(binary.BigEndian.Uint64(body)); got != want {
					return fmt.Errorf("row %d where %d should be", got, want)
				}
				want++
				return nil
			})
			if err != nil || want != index+1 {
				t.Fatalf("%s holds rows up to %d at index %d (%v)", table, want-1, index, err)
			}
		}
	}
	closeStore(t, s)
}

// TestFlushFailure: when a flush can not write, the member is told, Flush and later commits fail, nothing hangs and
// what was durable before stays.
func TestFlushFailure(t *testing.T) {
	for name, match := range map[string]func(op errorfs.Op) bool{
		"create table":   func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate },
		"write table":    func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite && isTable(op.Path) },
		"sync table":     func(op errorfs.Op) bool { return isSync(op) && isTable(op.Path) },
		"write manifest": func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite && !isTable(op.Path) },
		"sync manifest":  func(op errorfs.Op) bool { return isSync(op) && !isTable(op.Path) },
	} {
		t.Run(name, func(t *testing.T) { testFlushFailure(t, match) })
	}
}

func isTable(path string) bool { return strings.HasSuffix(path, ".sst") }

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

func testFlushFailure(t *testing.T, match func(op errorfs.Op) bool) {
	mem := vfs.NewCrashableMem()
	injected := errors.New("injected")
	var broken atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && match(op) {
			return injected
		}
		return nil
	}))
	var fatal atomic.Pointer[error]
	s, err := Open(Config{FS: fs, Dir: "store", OnFatal: func(err error) {
		time.Sleep(20 * time.Millisecond) // in which whoever does not wait for us gets ahead
		fatal.Store(&err)
	}})
	if err != nil {
		t.Fatal(err)
	}
	write := func(index kv.Index) error {
		b := s.NewBatch()
		defer b.Close()
		b.SetApplied(index, 1, nil)
		return b.Commit()
	}
	if err := errors.Join(write(1), s.Flush(), write(2)); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if err := s.Flush(); err == nil || !strings.Contains(err.Error(), "injected") {
		t.Fatalf("flush: %v", err)
	}
	if told := fatal.Load(); told == nil || !strings.Contains((*told).Error(), "injected") {
		t.Fatalf("the flush has failed, told was %v", told)
	}
	if err := write(3); err == nil {
		t.Fatal("a commit after the failure passed")
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "injected") {
		t.Fatalf("close: %v", err)
	}
	// What a crash leaves is what was durable.
	again := open(t, mem.CrashClone(vfs.CrashCloneCfg{}))
	if again.Applied().Index != 1 {
		t.Fatalf("at index %d", again.Applied().Index)
	}
	closeStore(t, again)
}

// TestDamagedBlock: a flipped bit in a table is detected and ends the member; it is never served.
func TestDamagedBlock(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	b := s.NewBatch()
	b.Set(TableMeta.Key([]byte("k")), bytes.Repeat([]byte("v"), 1000))
	commit(t, b)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	names, err := fs.List("store")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if isTable(name) {
			flipBit(t, fs, fs.PathJoin("store", name))
		}
	}
	s, err = Open(Config{FS: fs, Dir: "store"})
	if err != nil {
		return // found at once
	}
	if v, ok, err := s.Get(TableMeta.Key([]byte("k"))); err == nil {
		t.Fatalf("a damaged row was served: %q %t", v, ok)
	}
	if s.Err() == nil {
		t.Fatal("the store takes itself for sound")
	}
	if err := s.Close(); err == nil {
		t.Fatal("closed without a word")
	}
}

func flipBit(t *testing.T, fs vfs.FS, path string) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	var one [1]byte
	if _, err := f.ReadAt(one[:], 5); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 1
	if _, err := f.WriteAt(one[:], 5); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

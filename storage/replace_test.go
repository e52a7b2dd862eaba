package storage

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
)

// TestReplace puts another database in the place of one that is being read. The reader goes on to see the old one, everybody
// else the new one; the old one's files go with its last reader, and nothing writes to it any more.
func TestReplace(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	k := TableMeta.Key([]byte("k"))
	write := func(s *Store, value string, index kv.Index) {
		b := s.NewBatch()
		b.Set(k, []byte(value))
		b.SetApplied(index, 1, nil)
		commit(t, b)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	read := func(v View) string {
		value, _, err := v.Get(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(value)
	}
	write(s, "old", 10)
	reader, err := s.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	it, err := s.Scan(TableMeta, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	late := s.NewBatch()
	late.Set(k, []byte("late"))

	next, err := Open(Config{FS: fs, Dir: "next"})
	if err != nil {
		t.Fatal(err)
	}
	write(next, "new", 20)
	s.Replace(next)

	if got := read(s); got != "new" || s.Dir() != "next" {
		t.Errorf("the store reads %q in %s", got, s.Dir())
	}
	if got := read(reader); got != "old" {
		t.Errorf("the reader of the old database reads %q", got)
	}
	if err := late.Commit(); err == nil {
		t.Error("a batch begun before was committed")
	}
	if err := late.Close(); err != nil {
		t.Fatal(err)
	}
	if durable, err := s.Durable(); err != nil || durable.Index != 20 {
		t.Errorf("durable is %d (%v)", durable.Index, err)
	}
	if err := s.Compact(context.Background()); err != nil {
		t.Errorf("compact: %v", err)
	}
	old := s.old[0]
	closeIter(t, it)
	if old.isClosed() {
		t.Error("the old database closed under its reader")
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	<-old.closed
	if _, err := fs.Stat("store"); err == nil {
		t.Error("the files of the old database are still there")
	}
	old.fail(context.Canceled) // concerns nobody
	if err := s.Err(); err != nil {
		t.Errorf("the store failed with what it replaced: %v", err)
	}
	closeStore(t, s)
}

// TestReplaceEndsCompaction: a compaction of tables under way ends with its database, and that is no failure.
func TestReplaceEndsCompaction(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	g, err := s.enter()
	if err != nil {
		t.Fatal(err)
	}
	next, err := Open(Config{FS: fs, Dir: "next"})
	if err != nil {
		t.Fatal(err)
	}
	s.Replace(next)
	if g.life.Err() == nil {
		t.Error("what works on the old database is not told to end")
	}
	g.release()
	closeStore(t, s)
}

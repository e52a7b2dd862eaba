package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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

// TestCheck: a checkpoint tells where it stands without being changed, and a flipped bit anywhere in a table is found.
func TestCheck(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	b := s.NewBatch()
	for i := range 1000 {
		b.Set(TableMeta.Key(fmt.Appendf(nil, "key%d", i)), bytes.Repeat([]byte{byte(i)}, 100))
	}
	b.SetApplied(10, 3, []byte("conf"))
	commit(t, b)
	if err := s.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	before, err := fs.List("copy")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{FS: fs, Dir: "copy"}
	if a, err := AppliedIn(cfg); err != nil || a.Index != 10 || a.Term != 3 || string(a.ConfState) != "conf" {
		t.Errorf("applied %+v (%v)", a, err)
	}
	table := ""
	for _, name := range before {
		if strings.HasSuffix(name, ".sst") {
			table = "copy/" + name
		}
	}
	free := func(int64) error { return nil }
	if err := Check(cfg, free); err != nil {
		t.Error(err)
	}
	full := errors.New("full")
	if err := Check(cfg, func(int64) error { return full }); !errors.Is(err, full) {
		t.Errorf("a check that is stopped returns %v", err)
	}
	info, err := fs.Stat(table)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < info.Size(); at += info.Size() / 5 { // few: Pebble tries every bit of a damaged block
		flip(t, fs, table, at)
		if err := Check(cfg, free); err == nil {
			t.Errorf("a flipped bit at %d of %d is not found", at, info.Size())
		}
		flip(t, fs, table, at)
	}
	if err := Check(cfg, free); err != nil {
		t.Error(err)
	}
}

func flip(t *testing.T, fs vfs.FS, path string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	if err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b, at)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

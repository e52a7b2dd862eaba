package storage

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestScratch writes, flushes and compacts in a store opened on a scratch: it is all there, and the real store has changed in
// nothing.
func TestScratch(t *testing.T) {
	disk := vfs.NewMem()
	cfg := Config{FS: disk, Dir: "a/store"}
	open := func(cfg Config) *Store {
		t.Helper()
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	set := func(s *Store, key, value string) {
		t.Helper()
		b := s.NewBatch()
		b.Set(TableMeta.Key([]byte(key)), []byte(value))
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	get := func(s *Store, key string) string {
		t.Helper()
		v, _, err := s.Get(TableMeta.Key([]byte(key)))
		if err != nil {
			t.Fatal(err)
		}
		return string(v)
	}
	flushAndClose := func(s *Store) {
		t.Helper()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(cfg)
	for i := range 100 {
		set(s, fmt.Sprint("k", i), "old")
	}
	flushAndClose(s)
	before := disk.String()

	upper, err := Scratch(disk, cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		s := open(Config{FS: upper, Dir: cfg.Dir})
		if got, want := get(s, "k7"), []string{"old", "new"}[round]; got != want {
			t.Errorf("round %d: %q, want %q", round, got, want)
		}
		set(s, "k7", "new")
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := s.Compact(t.Context()); err != nil { // replaces and removes tables
			t.Fatal(err)
		}
		if got := get(s, "k8"); got != "old" {
			t.Errorf("round %d: another key is %q", round, got)
		}
		flushAndClose(s)
	}
	if after := disk.String(); after != before {
		t.Errorf("the disk was\n%s\nand is\n%s", before, after)
	}
	s = open(cfg)
	if got := get(s, "k7"); got != "old" {
		t.Errorf("the real store has %q", got)
	}
	flushAndClose(s)
	if _, err := Scratch(disk, "none"); err == nil {
		t.Error("a scratch of nothing")
	}
}

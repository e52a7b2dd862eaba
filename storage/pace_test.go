package storage

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestPace: a merge of tables asks after every few rows whether it should wait, a flush never.
func TestPace(t *testing.T) {
	var begun, steps atomic.Int64
	s, err := Open(Config{FS: vfs.NewMem(), Dir: "db", Pace: func() func() {
		begun.Add(1)
		return func() { steps.Add(1) }
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const rows = 5000
	for round := range 2 {
		b := s.NewBatch()
		for i := range rows {
			b.Set(TableMeta.Key(fmt.Appendf(nil, "row %d", i)), fmt.Appendf(nil, "round %d", round))
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Sublevels(); n != 2 {
		t.Errorf("level 0 is %d deep after two flushes", n)
	}
	if begun.Load() != 0 || steps.Load() != 0 {
		t.Fatalf("%d merges began and were held up %d times by two flushes", begun.Load(), steps.Load())
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := steps.Load(); begun.Load() == 0 || n < rows/200 {
		t.Errorf("%d merges that left %d rows asked %d times whether to wait", begun.Load(), rows, n)
	}
	if n := s.Sublevels(); n != 0 {
		t.Errorf("level 0 is %d deep after all was merged", n)
	}
}

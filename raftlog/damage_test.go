package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// newLog returns a log of a few segments with everything in it that a log can hold.
func newLog(t *testing.T) *vfs.MemFS {
	t.Helper()
	fsys := vfs.NewMem()
	l, err := Create(Config{FS: fsys, Dir: "wal", Log: quiet(), SegmentBytes: 2200}, Metadata{1, 2})
	must(err)
	conf := &raftpb.ConfState{Voters: []uint64{fixtureNode}}
	for _, save := range []Save{
		{Entries: []*raftpb.Entry{typed(raftpb.EntryType_EntryConfChange, 1, 1, []byte("member"))}, State: HardState{1, 0, 1}},
		{State: HardState{2, fixtureNode, 1}},
		{Entries: []*raftpb.Entry{untyped(2, 2, nil)}},
		{Entries: []*raftpb.Entry{normal(2, 3, bytes.Repeat([]byte("x"), 700)), normal(2, 4, make([]byte, 1500))}},
		{State: HardState{2, fixtureNode, 2}},
		{Entries: []*raftpb.Entry{normal(3, 4, []byte("replaced"))}, State: HardState{3, 0, 3}},
		{Entries: []*raftpb.Entry{normal(3, 5, make([]byte, 900))}, State: HardState{3, 0, 5}},
		{Snapshot: &SnapshotRecord{Index: 4, Term: 3, ConfState: conf}},
		{Snapshot: &SnapshotRecord{Index: 20, Term: 4, ConfState: conf}, State: HardState{4, fixtureNode, 20}},
		{Entries: []*raftpb.Entry{untyped(4, 21, nil), normal(4, 22, make([]byte, 2000))}},
		{Entries: []*raftpb.Entry{untyped(4, 23, nil)}, State: HardState{4, fixtureNode, 22}},
		{Entries: []*raftpb.Entry{normal(4, 24, append(make([]byte, 1600), "end"...))}},
	} {
		must(l.Append(save))
	}
	must(l.Close())
	return fsys
}

// contents is all that a reader can learn from a log.
func contents(fsys vfs.FS) (Summary, []string, error) {
	var records []string
	sum, err := Read(fsys, "wal", func(r Record) error {
		records = append(records, fmt.Sprintf("%s %d %v %x", r.Segment, r.Offset, r.Type, r.Data))
		return nil
	})
	return sum, records, err
}

// No flipped bit in a synced log changes what is read without being noticed. By default a sample of the bits is tried,
// with HOLDFAST_ALL_BITS=1 each.
func TestFlippedBits(t *testing.T) {
	fsys := newLog(t)
	wantSum, want, err := contents(fsys)
	must(err)
	names := must1(fsys.List("wal"))
	if len(names) < 3 {
		t.Fatalf("only %v", names)
	}
	step := 1 + rand.IntN(23)
	if os.Getenv("HOLDFAST_ALL_BITS") != "" {
		step = 1
	}
	tried, noticed := 0, 0
	for _, name := range names {
		data := must1(fsys.UnsafeGetFileDataBuffer("wal/" + name))
		for bit := step - 1; bit < len(data)*8; bit += step {
			data[bit/8] ^= 1 << (bit % 8)
			sum, got, err := contents(fsys)
			data[bit/8] ^= 1 << (bit % 8)
			tried++
			if errors.Is(err, ErrDamaged) {
				noticed++
				continue
			}
			sum.TornBytes = 0 // a bit in the empty end of the file may count as torn; it costs nothing
			if err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(sum, wantSum) {
				t.Fatalf("bit %d of byte %d of %s: %v\n%+v, want %+v\n%d records, want %d", bit%8, bit/8, name, err, sum, wantSum, len(got), len(want))
			}
		}
	}
	t.Logf("every %dth bit: %d tried, %d noticed, the others harmless", step, tried, noticed)
	if noticed < tried/4 {
		t.Errorf("only %d of %d noticed", noticed, tried)
	}
}

// A zeroed sector in synced records is noticed, unless it lies in the last batch that holds entries: nothing on disk tells
// that from a write torn by a crash (tail.go).
func TestZeroedSectors(t *testing.T) {
	fsys := newLog(t)
	_, want, err := contents(fsys)
	must(err)
	names := must1(fsys.List("wal"))
	var noticed, lastBatch int
	for _, name := range names {
		data := must1(fsys.UnsafeGetFileDataBuffer("wal/" + name))
		for off := 0; off < len(data); off += sectorBytes {
			sector := data[off:min(off+sectorBytes, len(data))]
			kept := bytes.Clone(sector)
			clear(sector)
			_, got, err := contents(fsys)
			copy(sector, kept)
			switch {
			case errors.Is(err, ErrDamaged):
				noticed++
			case err != nil:
				t.Errorf("%s at %d: %v", name, off, err)
			case len(got) < len(want):
				lost := want[len(got):]
				if strings.Count(strings.Join(lost, "\n"), " entry ") > 1 {
					t.Errorf("%s at %d: lost more than the last batch: %d records", name, off, len(lost))
				}
				lastBatch++
			}
		}
	}
	if noticed < 5 || lastBatch == 0 {
		t.Errorf("%d noticed, %d in the last batch", noticed, lastBatch)
	}
}

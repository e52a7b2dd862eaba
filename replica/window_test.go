package replica

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// naiveLog is what window should look like from outside: all entries ever, and where it begins.
type naiveLog struct {
	entries []*raftpb.Entry // index i at position i
	first   uint64
}

func (n *naiveLog) last() uint64 { return uint64(len(n.entries) - 1) }

// TestWindow compares the window with the naive log under random appends, overruled tails, trims and compactions, and
// checks that what was read once never changes: raft and the other goroutines keep it.
func TestWindow(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := &window{first: 1, base: 1, terms: termRuns{{}}, conf: &raftpb.ConfState{}}
	n := &naiveLog{entries: []*raftpb.Entry{{Index: new(uint64(0)), Term: new(uint64(0))}}, first: 1}
	term := uint64(1)
	type kept struct{ slice, copied []*raftpb.Entry }
	var read []kept
	for range 6000 {
		switch rnd.IntN(6) {
		case 0, 1, 2:
			from := w.last() + 1
			if rnd.IntN(10) == 0 && w.last() > w.applied {
				from = w.applied + 1 + rnd.Uint64N(w.last()-w.applied)
				term++
			}
			var add []*raftpb.Entry
			for i := range 1 + rnd.Uint64N(5) {
				add = append(add, &raftpb.Entry{Index: new(from + i), Term: &term, Data: make([]byte, rnd.IntN(50))})
			}
			for _, e := range add {
				e.Term = new(term)
			}
			w.append(add)
			n.entries = append(slices.Clone(n.entries[:from]), add...)
		case 3:
			w.applied += rnd.Uint64N(w.last() - w.applied + 1)
			w.trim(rnd.IntN(20), rnd.Uint64N(1000))
		case 4:
			if rnd.IntN(20) == 0 && w.applied >= n.first {
				n.first += rnd.Uint64N(w.applied-n.first+1) + 1
				w.compact(n.first)
			}
		case 5:
			got := compareRead(t, rnd, w, n)
			read = append(read, kept{got, slices.Clone(got)})
		}
		if w.size != entriesSize(w.entries) {
			t.Fatalf("size %d, the entries have %d", w.size, entriesSize(w.entries))
		}
		if first, _ := w.FirstIndex(); first != n.first || w.last() != n.last() || w.base > w.applied+1 {
			t.Fatalf("[%d, %d] with base %d and applied %d, want [%d, %d]", first, w.last(), w.base, w.applied, n.first, n.last())
		}
	}
	for _, k := range read {
		if !slices.Equal(k.slice, k.copied) {
			t.Fatal("a slice that was handed out has changed")
		}
	}
}

// compareRead reads a random range from both.
func compareRead(t *testing.T, rnd *rand.Rand, w *window, n *naiveLog) []*raftpb.Entry {
	t.Helper()
	lo := rnd.Uint64N(n.last() + 2)
	if rnd.IntN(2) == 0 {
		lo = w.base + rnd.Uint64N(n.last()+2-w.base)
	}
	hi := lo + rnd.Uint64N(n.last()+2-lo)
	limitBytes := rnd.Uint64N(300)
	got, err := w.Entries(lo, hi, limitBytes)
	if term, termErr := w.Term(lo); lo+1 < n.first {
		if !errors.Is(termErr, raft.ErrCompacted) {
			t.Fatalf("term of %d: %v", lo, termErr)
		}
	} else if lo <= n.last() && (termErr != nil || term != n.entries[lo].GetTerm()) {
		t.Fatalf("term of %d is %d, %v; want %d", lo, term, termErr, n.entries[lo].GetTerm())
	}
	switch {
	case lo < n.first:
		if !errors.Is(err, raft.ErrCompacted) {
			t.Fatalf("entries from %d: %v, want compacted", lo, err)
		}
		return nil
	case lo < w.base:
		if len(got) != 0 || err != nil {
			t.Fatalf("entries from %d, on disk only: %v, %v", lo, got, err)
		}
		return nil
	}
	var want []*raftpb.Entry
	size := 0
	for _, e := range n.entries[lo:hi] {
		if size += proto.Size(e); len(want) > 0 && uint64(size) > limitBytes {
			break
		}
		want = append(want, e)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("entries [%d, %d): %d of them, %v; want %d", lo, hi, len(got), err, len(want))
	}
	_ = append(got, &raftpb.Entry{}) // raft may
	return got
}

// TestWindowLetsGo: of large entries that were dropped only a few are still in memory, although the array they stood in is.
func TestWindowLetsGo(t *testing.T) {
	const size, entries = copyAfterBytes / 4, 60
	w := &window{first: 1, base: 1, terms: termRuns{{}}, conf: &raftpb.ConfState{}}
	var weaks []weak.Pointer[raftpb.Entry]
	for range entries {
		e := &raftpb.Entry{Index: new(w.last() + 1), Term: new(uint64(1)), Data: make([]byte, size)}
		weaks = append(weaks, weak.Make(e))
		w.append([]*raftpb.Entry{e})
	}
	for w.applied < w.last() {
		w.applied++
		w.trim(0, 0)
	}
	runtime.GC()
	alive := 0
	for _, p := range weaks {
		if p.Value() != nil {
			alive++
		}
	}
	if alive > 5 {
		t.Fatalf("%d of %d dropped entries are alive", alive, entries)
	}
	runtime.KeepAlive(w)
}

// TestEntrySize compares the size counted by hand with the library's.
func TestEntrySize(t *testing.T) {
	for _, e := range []*raftpb.Entry{
		{Index: new(uint64(0)), Term: new(uint64(0))},
		{Index: new(uint64(127)), Term: new(uint64(128)), Type: changeEntry, Data: []byte{}},
		{Index: new(uint64(1) << 63), Term: new(uint64(1) << 35), Type: normalEntry, Data: make([]byte, 300)},
	} {
		if got, want := entrySize(e), uint64(proto.Size(e)); got != want {
			t.Fatalf("%v: %d bytes, want %d", e, got, want)
		}
	}
}

// TestReadAhead follows one follower from the beginning of a long log: each chunk is asked for before the last one is used
// up, and no more are kept than allowed.
func TestReadAhead(t *testing.T) {
	const base = 10000
	chunk := func(s span) (all []*raftpb.Entry) {
		for i := s.lo; i < min(s.hi, s.lo+100); i++ {
			all = append(all, &raftpb.Entry{Index: new(i), Term: new(uint64(1))})
		}
		return all
	}
	var a readAhead
	at, empty := uint64(1), 0
	for at < base {
		got := a.find(at, min(at+30, base), base)
		if len(got) == 0 {
			empty++
		}
		for _, e := range got {
			if e.GetIndex() != at {
				t.Fatalf("entry %d, want %d", e.GetIndex(), at)
			}
			at++
		}
		if s, ok := a.next(); ok {
			if _, again := a.next(); again {
				t.Fatal("two reads at once")
			}
			a.add(chunk(s), 1)
		}
		if len(a.chunks) > readAheadChunks {
			t.Fatalf("%d chunks kept", len(a.chunks))
		}
	}
	if empty != 1 {
		t.Fatalf("the follower waited %d times, want once, at the beginning", empty)
	}
	a.release(base)
	if len(a.chunks) != 0 {
		t.Fatal("chunks kept of a log that was released")
	}
}

// TestBrokenInvariants checks that the window says both sides when it is used against its rules.
func TestBrokenInvariants(t *testing.T) {
	for want, use := range map[string]func(w *window){
		"append at 9 to entries [5, 6]":         func(w *window) { w.append([]*raftpb.Entry{{Index: new(uint64(9))}}) },
		"append at 4 to entries [5, 6]":         func(w *window) { w.append([]*raftpb.Entry{{Index: new(uint64(4))}}) },
		"release the log up to 6, applied is 5": func(w *window) { w.compact(7) },
		"term of 1 asked, known are [{4 1}]":    func(w *window) { w.terms.at(1) },
	} {
		t.Run(want, func(t *testing.T) {
			w := &window{first: 5, base: 5, applied: 5, terms: termRuns{{4, 1}}}
			w.append([]*raftpb.Entry{{Index: new(uint64(5)), Term: new(uint64(1))}, {Index: new(uint64(6)), Term: new(uint64(1))}})
			defer func() {
				if p, ok := recover().(string); !ok || !strings.Contains(p, want) {
					t.Fatalf("panic %q, want %q", p, want)
				}
			}()
			use(w)
		})
	}
}

package mvcc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast/kv"
	"holdfast/storage"
)

// stingy is room for so many bytes; with broken it fails there.
type stingy struct {
	left   int
	broken error
}

// Take implements Room.
func (r *stingy) Take(n int) (bool, error) {
	if r.left -= n; r.left < 0 {
		return false, r.broken
	}
	return true, nil
}

// Measured implements Room.
func (r *stingy) Measured() {}

// bulky fills a store with keys whose values have up to some 20 KB, now and then more than a piece.
func bulky(t *testing.T, rng *rand.Rand) (*storage.Store, *Store) {
	st, s := openMem(t)
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for i := range 250 {
		size := rng.IntN(20 << 10)
		if i%60 == 7 {
			size = pieceBytes + rng.IntN(pieceBytes)
		}
		at := rng.IntN(len(noise) - size)
		write(t, st, s, func(c *Command) { c.Put(fmt.Appendf(nil, "k%03d", i*7%250), noise[at:at+size], kv.LeaseID(i%3)) })
	}
	return st, s
}

func framed(r *kv.RangeResult) []byte { return bytes.Join(r.Rows.Chunks(), nil) }

// TestRestIsTheRest: what a range has no room for is read in pieces later, and both together are the answer that it would have been,
// whatever is written and compacted meanwhile.
func TestRestIsTheRest(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	st, s := bulky(t, rng)
	left := 0
	for round := range 60 {
		q := &kv.RangeRequest{KeyRange: kv.KeyRange{Key: fmt.Appendf(nil, "k%03d", rng.IntN(100)), End: []byte("l")}, KeysOnly: rng.IntN(6) == 0}
		switch rng.IntN(4) {
		case 0:
			q.Limit = 1 + rng.Int64N(200)
		case 1:
			q.MinMod = s.Revision() - kv.Revision(rng.IntN(100))
		case 2:
			q.End = nil
		}
		want, err := s.Range(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := s.RangeWithin(context.Background(), q, &stingy{left: rng.IntN(3 << 20)})
		if err != nil {
			t.Fatal(err)
		}
		if got.Count != want.Count || got.More != want.More {
			t.Fatalf("round %d: count %d more %v, want %d %v", round, got.Count, got.More, want.Count, want.More)
		}
		write(t, st, s, func(c *Command) { c.DeleteRange(kv.KeyRange{Key: []byte("k0"), End: []byte("k05")}, nil) })
		write(t, st, s, func(c *Command) { c.Put(fmt.Appendf(nil, "k%03d", rng.IntN(250)), make([]byte, rng.IntN(30<<10)), 0) })
		if round%5 == 0 && (rest == nil || len(rest.Pieces) > 0) {
			compactAt(t, st, s, s.Revision())
			finish(t, s)
		}
		whole := framed(got)
		if rest == nil {
			rest = &Rest{}
		}
		for i, chunk := range got.Rows.Chunks() {
			if rest.s == nil || s.Compacted() > rest.at {
				break
			}
			p, err := rest.PieceOf(chunk)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := rest.Read(p); err != nil || !bytes.Equal(again, chunk) {
				t.Fatalf("round %d: chunk %d read again: %v, equal %v", round, i, err, bytes.Equal(again, chunk))
			}
		}
		for _, p := range rest.Pieces {
			left++
			part, err := rest.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			whole = append(whole, part...)
			kv.FreeChunk(part)
		}
		if err := rest.Release(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(whole, framed(want)) {
			t.Fatalf("round %d: the parts of %+v are %d bytes and not the whole of %d", round, q, len(whole), len(framed(want)))
		}
	}
	if left < 50 {
		t.Fatalf("only %d pieces were left: the test shows nothing", left)
	}
}

// finish completes the compactions that were asked for.
func finish(t *testing.T, s *Store) {
	t.Helper()
	for {
		done, err := s.CompactStep(1000)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
}

// TestRestAfterCompaction: a rest that was released and compacted cannot be read any more, and says so.
func TestRestAfterCompaction(t *testing.T) {
	st, s := bulky(t, rand.New(rand.NewPCG(1, 2)))
	_, rest, err := s.RangeWithin(context.Background(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k"), End: []byte("l")}}, &stingy{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, st, s, func(c *Command) { c.Put([]byte("k000"), nil, 0) })
	compactAt(t, st, s, s.Revision())
	if part, err := rest.Read(rest.Pieces[0]); err != nil || len(part) != rest.Pieces[0].Bytes {
		t.Fatalf("while it is held: %v", err)
	}
	if err := rest.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := rest.Read(rest.Pieces[0]); !errors.Is(err, ErrCompacted) {
		t.Fatalf("after that: %v", err)
	}
}

// TestSortedNeedsRoom: what is sorted has to be in memory as a whole, and what a limit leaves out has not.
func TestSortedNeedsRoom(t *testing.T) {
	_, s := bulky(t, rand.New(rand.NewPCG(1, 2)))
	all := kv.KeyRange{Key: []byte("k"), End: []byte("l")}
	broken := errors.New("wait")
	for _, c := range []struct {
		limit int64
		room  stingy
		want  error
	}{
		{0, stingy{left: 1 << 20}, ErrNoRoom},
		{0, stingy{left: 1 << 20, broken: broken}, broken},
		{0, stingy{left: 64 << 20}, nil},
		{1, stingy{left: 64 << 20}, nil},
	} {
		q := &kv.RangeRequest{KeyRange: all, SortTarget: kv.SortByMod, SortOrder: kv.SortDescend, Limit: c.limit}
		got, rest, err := s.RangeWithin(context.Background(), q, &c.room)
		if !errors.Is(err, c.want) {
			t.Errorf("limit %d, %+v: %v, want %v", c.limit, c.room, err, c.want)
		}
		if err == nil && (rest != nil || got.Count != 250) {
			t.Errorf("limit %d: %d rows counted, a rest %v", c.limit, got.Count, rest)
		}
	}
}

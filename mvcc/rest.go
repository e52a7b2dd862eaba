package mvcc

import (
	"bytes"
	"errors"
	"fmt"

	"holdfast/kv"
	"holdfast/storage"
)

// An answer may be larger than the memory there is. It is read in key order, and what finds no room is only measured: how many
// bytes of rows, in pieces of known size. Each piece is read again, at the same revision, when its turn to be sent has come.

// Room is asked for memory for an answer that is not tiny.
type Room interface {
	// Take is called before n more bytes are allocated. false says that they may not be; an error ends the range.
	Take(n int) (bool, error)
	// Measured is called for each piece that has been measured. It may wait a little, so that others get on.
	Measured()
}

// RoomFree is how large an answer may become before room is asked for: what a call takes anyhow.
const RoomFree = 4 << 10

// ErrNoRoom says that an answer has to be in memory as a whole, because it is sorted, and finds no room there.
var ErrNoRoom = errors.New("mvcc: no room for an answer")

// Piece is a part of an answer: the framed rows from a key on.
type Piece struct {
	From  []byte
	Bytes int // exactly; about pieceBytes, or one larger row
}

// pieceBytes is the size of pieces: what is read for one is some ten times what finding its first key costs.
const pieceBytes = kv.ChunkMax

// Rest is what of an answer is left to be read later, or can be read again. One goroutine uses it at a time.
type Rest struct {
	s  *Store
	q  *kv.RangeRequest
	at kv.Revision
	// snapshot keeps the rows readable while the answer is sent; nil if it was released.
	snapshot *storage.Reader

	// Pieces are what was measured, in order.
	Pieces []Piece
}

// open makes sure that the rest can be read: no compaction may have reached its revision.
func (r *Rest) open() error {
	if r.snapshot != nil {
		return nil
	}
	snapshot, err := r.s.st.NewReader()
	if err != nil {
		return err
	}
	if r.at < r.s.Compacted() {
		return errors.Join(ErrCompacted, snapshot.Close())
	}
	r.snapshot = snapshot
	return nil
}

// Release lets the store forget the revision that is read. What is read afterwards fails if it has.
func (r *Rest) Release() error {
	if r == nil || r.snapshot == nil {
		return nil
	}
	err := r.snapshot.Close()
	r.snapshot = nil
	return err
}

// Read returns the rows of a piece in a chunk, for kv.FreeChunk.
func (r *Rest) Read(p Piece) ([]byte, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	_, hi := r.q.Bounds()
	it, err := r.snapshot.Scan(storage.TableVersions, p.From, hi)
	if err != nil {
		return nil, err
	}
	var rows kv.Rows
	rows.Reserve(p.Bytes)
	err = scan(it, r.at, func(_ []byte, _ kv.Rev, row []byte) (bool, error) {
		if row == nil {
			return true, nil
		}
		ok, err := passes(r.q, row)
		if err == nil && ok {
			err = appendRow(&rows, r.q, row)
		}
		return rows.Size() < p.Bytes, err
	})
	if err := closeWith(it, err); err != nil {
		return nil, err
	}
	if rows.Size() != p.Bytes {
		return nil, fmt.Errorf("rows from %q at revision %s have %d bytes, and had %d", p.From, r.at, rows.Size(), p.Bytes)
	}
	return rows.Chunks()[0], nil
}

// PieceOf is the piece that a chunk of the answer's rows holds.
func (r *Rest) PieceOf(chunk []byte) (Piece, error) {
	first, err := kv.FirstRow(chunk)
	if err != nil {
		return Piece{}, err
	}
	v, err := kv.DecodeKeyValue(first)
	return Piece{From: bytes.Clone(v.Key), Bytes: len(chunk)}, err
}

// RangeBytes guesses how many bytes the rows of a range have: its keys are about as large as all are, history included. A single key
// counts as nothing.
func (s *Store) RangeBytes(r kv.KeyRange) int64 {
	now := s.published.Load()
	keys := now.census.Keys()
	if r.IsSingle() || r.IsEmpty() || keys == 0 {
		return 0
	}
	return now.census.Estimate(r.Bounds()) * (s.SizeInUse()/keys + 1)
}

// collector takes the rows of an answer, as far as there is room.
type collector struct {
	s     *Store
	q     *kv.RangeRequest
	at    kv.Revision
	room  Room // nil: there is always room
	taken int64
	rest  *Rest // nil until room is asked for; not for what has to stay in memory
	full  bool  // the others are measured

	// Bytes of rows that have to stay in memory, and for how many there is room.
	held, granted int
}

// take adds a row to rows, or measures it.
func (c *collector) take(rows *kv.Rows, row []byte) error {
	c.taken++
	if c.room == nil {
		return appendRow(rows, c.q, row)
	}
	n := len(row)
	if c.q.KeysOnly {
		v, err := withoutValue(c.q, row)
		if err != nil {
			return err
		}
		n = v.Size()
	}
	if chunk := rows.NextChunk(n); chunk > 0 && !c.full && rows.Size()+chunk > RoomFree {
		if c.rest == nil {
			c.rest = &Rest{s: c.s, q: c.q, at: c.at}
		}
		ok, err := c.room.Take(chunk)
		if err != nil {
			return err
		}
		c.full = !ok
	}
	if !c.full {
		return appendRow(rows, c.q, row)
	}
	return c.rest.measure(row, kv.FramedSize(n), c.room)
}

// measure adds a row of n bytes, framed, to the last piece or to a new one.
func (r *Rest) measure(row []byte, n int, room Room) error {
	if last := len(r.Pieces) - 1; last >= 0 && r.Pieces[last].Bytes+n <= pieceBytes {
		r.Pieces[last].Bytes += n
		return nil
	}
	if len(r.Pieces) > 0 {
		room.Measured()
	}
	v, err := kv.DecodeKeyValue(row)
	r.Pieces = append(r.Pieces, Piece{From: bytes.Clone(v.Key), Bytes: n})
	return err
}

// end returns what is left to be read later.
func (c *collector) end() (*Rest, error) {
	if c.full {
		return c.rest, c.rest.open()
	}
	return c.rest, nil
}

// What a row costs that waits to be sorted, beside its bytes, which are copied twice; and for how much is asked at once.
const (
	sortableOverhead = 128
	holdStep         = 64 << 10
)

func (r *sortable) held() int { return sortableOverhead + 2*len(r.row) }

// hold asks for room for a row that has to stay in memory.
func (c *collector) hold(r *sortable) error {
	c.held += r.held()
	if c.room == nil || c.held <= max(c.granted, RoomFree) {
		return nil
	}
	more := max(holdStep, c.held-c.granted)
	ok, err := c.room.Take(more)
	if err == nil && !ok {
		err = ErrNoRoom
	}
	c.granted += more
	return err
}

// holdOnly says that no other rows are held any more than these.
func (c *collector) holdOnly(rows []sortable) {
	c.held = 0
	for i := range rows {
		c.held += rows[i].held()
	}
}

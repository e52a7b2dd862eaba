package kv

import (
	"io"
	"iter"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// Rows are encoded KeyValues in answer order, framed as a repeated message field, in chunks: an answer of any size
// is built without ever copying what is already there, and goes to the socket as it lies.
//
// The zero value holds no rows and frames them as field 2 (RangeResponse.kvs); deletions use PrevRows.
type Rows struct {
	chunks [][]byte
	lone   []byte // without framing; nil: the rows are in chunks
	n      int
	size   int
	field  protowire.Number
}

// Chunks double from chunkMin to ChunkMax: a single small row costs one small allocation, a large answer few large
// ones, which are used again (FreeChunk). A row larger than ChunkMax gets a chunk of its own.
const (
	chunkMin = 512
	ChunkMax = 256 << 10
)

// chunks are those of ChunkMax that nobody needs.
var chunks = sync.Pool{New: func() any { return new([ChunkMax]byte) }}

func newChunk(capacity int) []byte {
	if capacity == ChunkMax {
		return chunks.Get().(*[ChunkMax]byte)[:0]
	}
	return make([]byte, 0, capacity)
}

// FreeChunk lets a chunk of rows be used again, which nobody may read any more. Chunks that are not freed are left to the
// garbage collector.
func FreeChunk(chunk []byte) {
	if cap(chunk) == ChunkMax {
		chunks.Put((*[ChunkMax]byte)(chunk[:ChunkMax]))
	}
}

// Field numbers that frame rows.
const (
	fieldRangeKVs      protowire.Number = 2
	fieldDeletePrevKVs protowire.Number = 3
)

// PrevRows is an empty Rows framed as DeleteRangeResponse.prev_kvs.
func PrevRows() Rows { return Rows{field: fieldDeletePrevKVs} }

// Len is the number of rows.
func (r *Rows) Len() int { return r.n }

// Size is the number of bytes of all rows with their framing.
func (r *Rows) Size() int { return r.size }

// Chunks are the framed rows, to be sent one after the other. They must not be changed.
func (r *Rows) Chunks() [][]byte {
	if r.lone != nil {
		return [][]byte{append(r.frame(make([]byte, 0, r.size), len(r.lone)), r.lone...)}
	}
	return r.chunks
}

// Hold makes an encoded KeyValue the only row, by reference: it must not be changed any more. No other may be added.
func (r *Rows) Hold(encoded []byte) {
	if r.n > 0 {
		panic("kv: a row is to be the only one, and there are others")
	}
	r.lone, r.n, r.size = encoded, 1, sizeMessage(len(encoded))
}

// frame adds what stands before a row of n bytes.
func (r *Rows) frame(dst []byte, n int) []byte {
	field := r.field
	if field == 0 {
		field = fieldRangeKVs
	}
	return appendLen(dst, field, n)
}

// Append adds a copy of an encoded KeyValue.
func (r *Rows) Append(encoded []byte) {
	dst := r.grow(len(encoded))
	*dst = append(*dst, encoded...)
}

// AppendKeyValue adds v, encoding it in place.
func (r *Rows) AppendKeyValue(v *KeyValue) {
	dst := r.grow(v.Size())
	*dst = v.Append(*dst)
}

// FramedSize is what a row of n bytes takes within its framing.
func FramedSize(n int) int { return sizeMessage(n) }

// NextChunk is the size of the chunk that has to be made for a row of n bytes, 0 if there is room for it.
func (r *Rows) NextChunk(n int) int {
	need := sizeMessage(n)
	last := len(r.chunks) - 1
	switch {
	case last < 0:
		return max(chunkMin, need)
	case cap(r.chunks[last])-len(r.chunks[last]) >= need:
		return 0
	}
	return max(min(2*cap(r.chunks[last]), ChunkMax), need)
}

// Reserve makes room for n bytes, framing included, in one chunk. It comes before the first row.
func (r *Rows) Reserve(n int) {
	capacity := n
	if n <= ChunkMax && n > ChunkMax/2 {
		capacity = ChunkMax
	}
	r.chunks = append(r.chunks, newChunk(capacity))
}

// grow frames a row of n bytes and returns the chunk that has room for it.
func (r *Rows) grow(n int) *[]byte {
	if r.lone != nil {
		panic("kv: a row is added to one that is to be the only one")
	}
	need := sizeMessage(n)
	if capacity := r.NextChunk(n); capacity > 0 {
		r.chunks = append(r.chunks, newChunk(capacity))
	}
	last := len(r.chunks) - 1
	r.n++
	r.size += need
	r.chunks[last] = r.frame(r.chunks[last], n)
	return &r.chunks[last]
}

// All yields each encoded KeyValue without its framing. They alias the rows.
func (r *Rows) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if r.lone != nil {
			yield(r.lone)
		}
		for _, chunk := range r.chunks {
			for len(chunk) > 0 {
				row, n := protowire.ConsumeBytes(chunk[1:])
				if n < 0 {
					panic("kv: rows hold a broken frame")
				}
				if !yield(row) {
					return
				}
				chunk = chunk[1+n:]
			}
		}
	}
}

// FirstRow is the first row of a chunk, without its framing.
func FirstRow(chunk []byte) ([]byte, error) {
	if len(chunk) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	row, n := protowire.ConsumeBytes(chunk[1:])
	return row, protowire.ParseError(n)
}

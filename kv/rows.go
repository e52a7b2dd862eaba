package kv

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

// Rows are encoded KeyValues in answer order, framed as a repeated message field, in chunks: an answer of any size
// is built without ever copying what is already there, and goes to the socket as it lies.
//
// The zero value holds no rows and frames them as field 2 (RangeResponse.kvs); deletions use PrevRows.
type Rows struct {
	chunks [][]byte
	n      int
	size   int
	field  protowire.Number
}

// Chunks double from chunkMin to chunkMax: a single small row costs one small allocation, a large answer few large
// ones that still fit the allocator's size classes. A row larger than chunkMax gets a chunk of its own.
const (
	chunkMin = 512
	chunkMax = 64 << 10
)

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
func (r *Rows) Chunks() [][]byte { return r.chunks }

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

// grow frames a row of n bytes and returns the chunk that has room for it.
func (r *Rows) grow(n int) *[]byte {
	field := r.field
	if field == 0 {
		field = fieldRangeKVs
	}
	need := sizeMessage(n)
	last := len(r.chunks) - 1
	if last < 0 || cap(r.chunks[last])-len(r.chunks[last]) < need {
		capacity := chunkMin
		if last >= 0 {
			capacity = min(2*cap(r.chunks[last]), chunkMax)
		}
		r.chunks = append(r.chunks, make([]byte, 0, max(capacity, need)))
		last++
	}
	r.n++
	r.size += need
	r.chunks[last] = appendLen(r.chunks[last], field, n)
	return &r.chunks[last]
}

// All yields each encoded KeyValue without its framing. They alias the rows.
func (r *Rows) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
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

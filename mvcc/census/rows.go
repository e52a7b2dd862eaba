package census

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"holdfast/kv"
	"holdfast/storage"
)

// rowKey is the key of the row of the block that begins at bound.
func rowKey(bound string) []byte { return storage.TableCensus.Key([]byte(bound)) }

func (b block) encode() []byte {
	row := make([]byte, 0, 3*binary.MaxVarintLen32)
	row = binary.AppendUvarint(row, uint64(b.live))
	row = binary.AppendUvarint(row, uint64(b.dead))
	return binary.AppendUvarint(row, uint64(b.died))
}

func decodeBlock(row []byte) (block, error) {
	var v [3]uint64
	rest := row
	for i := range v {
		x, n := binary.Uvarint(rest)
		if n <= 0 {
			return block{}, fmt.Errorf("row %x ends early", row)
		}
		v[i], rest = x, rest[n:]
	}
	if len(rest) > 0 || v[0] > math.MaxInt32 || v[1] > math.MaxInt32 || v[2] > math.MaxInt64 {
		return block{}, fmt.Errorf("row %x makes no sense", row)
	}
	return block{live: int32(v[0]), dead: int32(v[1]), died: kv.Revision(v[2])}, nil
}

// Table is where the rows are: a storage.View.
type Table interface {
	Each(t storage.Table, do func(body, value []byte) error) error
}

// Load reads the census that edits have written; there is none in a store that never had a key.
func Load(st Table) (*Version, error) {
	var bounds []string
	var blocks []block
	err := st.Each(storage.TableCensus, func(body, value []byte) error {
		b, err := decodeBlock(value)
		if err != nil {
			return fmt.Errorf("block at %q: %w", body, err)
		}
		bounds, blocks = append(bounds, string(body)), append(blocks, b)
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("load census: %w", err)
	case len(bounds) == 0:
		return Empty(), nil
	case bounds[0] != "":
		return nil, errors.New("load census: the first block is missing")
	}
	return &Version{root: grow(bounds, blocks)}, nil
}

// Builder makes the rows of a census from all keys in order.
type Builder struct {
	rows  Rows
	died  kv.Revision
	bound string
	block block
	keys  int64
}

// NewBuilder begins a census that is written to rows; no key died after the revision died.
func NewBuilder(rows Rows, died kv.Revision) *Builder { return &Builder{rows: rows, died: died} }

// Add counts the next key that has a row. The keys must ascend.
func (b *Builder) Add(key []byte, lives bool) {
	if b.block.weight(0) == blockTarget {
		b.write()
		b.bound, b.block = string(key), block{}
	}
	if lives {
		b.block.live++
		b.keys++
	} else {
		b.block.dead++
		b.block.died = b.died
	}
}

func (b *Builder) write() { b.rows.Set(rowKey(b.bound), b.block.encode()) }

// Finish writes the last row and returns the number of keys that live.
func (b *Builder) Finish() int64 {
	b.write()
	return b.keys
}

package census

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/kv"
	"holdfast/storage"
)

// blockKey is the key of the row of the block that begins at bound.
func blockKey(bound string) []byte {
	return storage.TableCensus.Key(append([]byte{kindBlock}, bound...))
}

// append adds the numbers of b as they stand in rows.
func (b block) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.live))
	dst = binary.AppendUvarint(dst, uint64(b.dead))
	return binary.AppendUvarint(dst, uint64(b.died))
}

// encode is the row of b: seq (uvarint) · live (uvarint) · dead (uvarint) · died (uvarint).
func (b block) encode() []byte {
	row := make([]byte, 0, 4*binary.MaxVarintLen32)
	return b.append(binary.AppendUvarint(row, b.seq))
}

func decodeBlock(row []byte) (block, error) {
	d := decoder{rest: row}
	seq := d.uvarint()
	b := d.block()
	if d.broken || len(d.rest) > 0 {
		return block{}, fmt.Errorf("row %x makes no sense", row)
	}
	b.seq = seq
	return b, nil
}

// Table is where the rows are: a storage.View.
type Table interface {
	Each(t storage.Table, do func(body, value []byte) error) error
}

// Load reads the census that edits have written; there is none in a store that never had a key.
func Load(st Table) (*Version, error) {
	var l loader
	if err := st.Each(storage.TableCensus, l.row); err != nil {
		return nil, fmt.Errorf("load census: %w", err)
	}
	switch {
	case len(l.blocks) == 0 && l.log.entries == 0:
		return Empty(), nil
	case len(l.blocks) == 0 || l.bounds[0] != "":
		return nil, errors.New("load census: the first block is missing")
	}
	return &Version{root: grow(l.bounds, l.blocks), log: l.log, seq: l.seq}, nil
}

// loader collects the rows: those of the blocks come first.
type loader struct {
	bounds []string
	blocks []block
	log    log
	seq    uint64 // the highest one seen
}

func (l *loader) row(body, value []byte) error {
	switch {
	case len(body) > 0 && body[0] == kindBlock:
		b, err := decodeBlock(value)
		if err != nil {
			return fmt.Errorf("block at %q: %w", body[1:], err)
		}
		l.bounds, l.blocks, l.seq = append(l.bounds, string(body[1:])), append(l.blocks, b), max(l.seq, b.seq)
		return nil
	case len(body) == 9 && body[0] == kindLog:
		seq := binary.BigEndian.Uint64(body[1:])
		entries, err := decodeLog(value)
		if err != nil {
			return fmt.Errorf("log at %d: %w", seq, err)
		}
		l.entries(seq, entries)
		return nil
	}
	return fmt.Errorf("row %x is neither of a block nor of the log", body)
}

// entries lets a row of the log hold for the blocks that have no newer row.
func (l *loader) entries(seq uint64, entries []cut) {
	r := logRow{seq: seq}
	for _, c := range entries {
		// A block that has joined another since then is not there.
		i, ok := slices.BinarySearchFunc(l.bounds, c.bound, strings.Compare)
		if !ok {
			continue
		}
		r.bounds = append(r.bounds, l.bounds[i])
		if l.blocks[i].seq < seq {
			l.blocks[i] = c.block
			l.blocks[i].seq = seq
		}
	}
	l.log = log{rows: append(l.log.rows, r), entries: l.log.entries + len(r.bounds)}
	l.seq = max(l.seq, seq)
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

func (b *Builder) write() { b.rows.Set(blockKey(b.bound), b.block.encode()) }

// Finish writes the last row and returns the number of keys that live.
func (b *Builder) Finish() int64 {
	b.write()
	return b.keys
}

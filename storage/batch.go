package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"holdfast/kv"
)

// Batch collects changes that become visible, and later durable, together. It belongs to one goroutine. An error of
// any change is kept and returned by Commit, so that call sites read as a list of changes.
type Batch struct {
	g   *generation
	b   *pebble.Batch
	key []byte // scratch
	err error
}

// NewBatch starts an empty batch. Close must be called on it, after Commit too.
func (s *Store) NewBatch() *Batch {
	g := s.gen.Load()
	return &Batch{g: g, b: g.db.NewBatch()}
}

// Set writes a row whose key a Table made. The batch keeps copies.
func (b *Batch) Set(key, value []byte) { b.keep(b.b.Set(key, value, nil)) }

// Delete removes a row that may have been written any number of times.
func (b *Batch) Delete(key []byte) { b.keep(b.b.Delete(key, nil)) }

// SingleDelete removes a row that was written exactly once; Pebble drops the pair as soon as the two meet.
func (b *Batch) SingleDelete(key []byte) { b.keep(b.b.SingleDelete(key, nil)) }

// DeleteRange removes all rows of t with bodies in [lo, hi), versions included; a nil hi is the end of the table.
func (b *Batch) DeleteRange(t Table, lo, hi []byte) {
	end := t.end()
	if hi != nil {
		end = t.Key(hi)
	}
	b.keep(b.b.DeleteRange(t.Key(lo), end, nil))
}

// SetVersion writes the version of body at rev into t.
func (b *Batch) SetVersion(t Table, body []byte, rev kv.Rev, value []byte) {
	b.key = t.AppendVersionKey(b.key[:0], body, rev)
	b.Set(b.key, value)
}

// SingleDeleteVersion removes the version of body at rev.
func (b *Batch) SingleDeleteVersion(t Table, body []byte, rev kv.Rev) {
	b.key = t.AppendVersionKey(b.key[:0], body, rev)
	b.SingleDelete(b.key)
}

// Append adds the changes of o, which stays as it is.
func (b *Batch) Append(o *Batch) {
	b.keep(o.err)
	b.keep(b.b.Apply(o.b, nil))
}

func (b *Batch) keep(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Len is the size of the batch in bytes.
func (b *Batch) Len() int { return b.b.Len() }

// Commit makes the batch visible as a whole. It does not wait for the disk.
func (b *Batch) Commit() error {
	if b.err != nil {
		return fmt.Errorf("build batch: %w", b.err)
	}
	if err := b.g.err(); err != nil {
		return err
	}
	if err := b.g.acquire(); err != nil {
		return err
	}
	defer b.g.release()
	n := b.b.Len()
	if err := b.g.db.Apply(b.b, pebble.NoSync); err != nil {
		return fmt.Errorf("commit batch of %d bytes: %w", n, err)
	}
	b.g.flush.committed(n, b.g.cfg.Now)
	return nil
}

// Close gives the memory of the batch back. What was not committed is dropped.
func (b *Batch) Close() error { return b.b.Close() }

// Applied is the applied cursor: the last raft entry whose changes the store holds.
type Applied struct {
	Index kv.Index
	Term  kv.Term
	// ConfState is raft's configuration at Index, in whatever encoding the caller uses.
	ConfState []byte
}

// The cursor is one row: index (8) · term (8) · conf state.
var appliedKey = TableMeta.Key([]byte("applied"))

const appliedLenMin = 16

// SetApplied puts the cursor into the batch that holds the changes up to it.
func (b *Batch) SetApplied(index kv.Index, term kv.Term, confState []byte) {
	v := make([]byte, 0, appliedLenMin+len(confState))
	v = binary.BigEndian.AppendUint64(v, uint64(index))
	v = binary.BigEndian.AppendUint64(v, uint64(term))
	b.Set(appliedKey, append(v, confState...))
}

// Applied is the cursor as it was when the present database was opened: where the raft log has to be replayed from.
func (s *Store) Applied() Applied { return s.gen.Load().applied }

// readApplied reads the cursor; opts may limit what is seen.
func (g *generation) readApplied(opts *pebble.IterOptions) (Applied, error) {
	it, err := g.db.NewIter(opts)
	if err != nil {
		return Applied{}, fmt.Errorf("read applied cursor: %w", err)
	}
	defer it.Close()
	var a Applied
	if it.SeekGE(appliedKey) && comparer.Equal(it.Key(), appliedKey) {
		v, err := it.ValueAndErr()
		if err != nil {
			return Applied{}, fmt.Errorf("read applied cursor: %w", err)
		}
		if a, err = decodeApplied(v); err != nil {
			return Applied{}, err
		}
	}
	if err := it.Error(); err != nil {
		return Applied{}, fmt.Errorf("read applied cursor: %w", err)
	}
	return a, nil
}

func decodeApplied(v []byte) (Applied, error) {
	if len(v) < appliedLenMin {
		return Applied{}, fmt.Errorf("read applied cursor: row of %d bytes", len(v))
	}
	return Applied{
		Index:     kv.Index(binary.BigEndian.Uint64(v)),
		Term:      kv.Term(binary.BigEndian.Uint64(v[8:])),
		ConfState: append([]byte(nil), v[appliedLenMin:]...),
	}, nil
}

// Applied is the cursor as the view sees it.
func (r *Reader) Applied() (Applied, error) {
	v, ok, err := r.Get(appliedKey)
	if err != nil || !ok {
		return Applied{}, err
	}
	return decodeApplied(v)
}

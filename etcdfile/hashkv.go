package etcdfile

import (
	"fmt"
	"hash/crc32"

	"holdfast/kv"
)

// Hash is what HashKV computes, with the revision it was computed at and the compacted one it depends on.
type Hash struct {
	Sum               uint32
	Revision, Compact kv.Revision
}

// HashKV computes etcd's HashKV of a database at rev, 0 being the current revision. It follows the rule word by word
// and holds one entry per key: the oracle that other implementations are compared with, not one for a running member.
//
// The rule: CRC-32 (Castagnoli) over the bucket's name, then every row's key and bytes up to rev in order. A row at
// or below the compacted revision counts only if a compaction at rev would keep it, which is when it is its key's
// newest up to rev and no tombstone; but if no key lives at rev, none is left out. A tombstone exactly at the
// compacted revision never counts: old etcds deleted it.
func HashKV(d *Database, rev kv.Revision) (Hash, error) {
	meta, err := d.Meta()
	if err != nil {
		return Hash{}, err
	}
	current, err := d.revision(meta)
	if err != nil {
		return Hash{}, err
	}
	h := Hash{Revision: rev, Compact: meta.Compacted()}
	switch {
	case rev == 0:
		h.Revision = current
	case rev < h.Compact:
		return Hash{}, fmt.Errorf("hash at revision %v, compacted at %v: %w", rev, h.Compact, ErrCompacted)
	case rev > current:
		return Hash{}, fmt.Errorf("hash at revision %v, current is %v: %w", rev, current, ErrFutureRevision)
	}
	living, err := d.living(h.Revision)
	if err != nil {
		return Hash{}, err
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	h.Sum = crc32.Update(0, table, []byte(bucketKey))
	for row, err := range d.Rows() {
		if err != nil {
			return Hash{}, err
		}
		if row.Rev.Main > h.Revision {
			break
		}
		if row.Rev.Main <= h.Compact && len(living) > 0 && !living[row.Rev] {
			continue
		}
		if row.Rev.Main == h.Compact && row.Tombstone {
			continue
		}
		h.Sum = crc32.Update(h.Sum, table, appendRevision(nil, row.Rev, row.Tombstone))
		h.Sum = crc32.Update(h.Sum, table, row.Encoded)
	}
	return h, nil
}

// living returns where each key that exists at rev was written last.
func (d *Database) living(rev kv.Revision) (map[kv.Rev]bool, error) {
	newest := map[string]kv.Rev{}
	for row, err := range d.Rows() {
		if err != nil {
			return nil, err
		}
		if row.Rev.Main > rev {
			break
		}
		v, err := row.KeyValue()
		if err != nil {
			return nil, err
		}
		if row.Tombstone {
			delete(newest, string(v.Key))
		} else {
			newest[string(v.Key)] = row.Rev
		}
	}
	living := make(map[kv.Rev]bool, len(newest))
	for _, at := range newest {
		living[at] = true
	}
	return living, nil
}

// Revision returns the current revision of the keys. It reads all rows.
func (d *Database) Revision() (kv.Revision, error) {
	meta, err := d.Meta()
	if err != nil {
		return 0, err
	}
	return d.revision(meta)
}

// revision returns the current revision: that of the last row, or the compacted one if compaction took the rows above.
func (d *Database) revision(m Meta) (kv.Revision, error) {
	current := max(firstRevision, m.Compacted())
	for row, err := range d.Rows() {
		if err != nil {
			return 0, err
		}
		current = max(current, row.Rev.Main)
	}
	return current, nil
}

// firstRevision is that of an empty store.
const firstRevision kv.Revision = 1

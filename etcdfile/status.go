package etcdfile

import (
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"holdfast/kv"
)

// Status is what `etcdutl snapshot status` tells of a database.
type Status struct {
	// Hash is CRC-32 (Castagnoli) over every bucket's name, keys and values in order: equal for equal content,
	// whatever pages it lies on.
	Hash     uint32
	Revision kv.Revision // of the last row
	Keys     int         // that exist at Revision
	Size     int64       // bytes in use, counted as bbolt does: up to the end of the last page
	Version  string      // of the schema; empty before etcd 3.6
}

// Status reads the whole database.
func (d *Database) Status() (Status, error) {
	meta, err := d.Meta()
	if err != nil {
		return Status{}, err
	}
	s := Status{Size: int64(d.pages.header.pages) * int64(d.pages.pageSize), Version: meta.StorageVersion}
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, bucket := range slices.Sorted(maps.Keys(d.buckets)) {
		s.Hash = crc32.Update(s.Hash, table, []byte(bucket))
		for e, err := range d.entries(bucket) {
			if err != nil {
				return Status{}, fmt.Errorf("read %s: bucket %q: %w", d.path, bucket, err)
			}
			s.Hash = crc32.Update(s.Hash, table, e.key)
			s.Hash = crc32.Update(s.Hash, table, e.value)
		}
	}
	living := map[string]bool{}
	for row, err := range d.Rows() {
		if err != nil {
			return Status{}, err
		}
		v, err := row.KeyValue()
		if err != nil {
			return Status{}, err
		}
		s.Revision = row.Rev.Main
		if row.Tombstone {
			delete(living, string(v.Key))
		} else {
			living[string(v.Key)] = true
		}
	}
	s.Keys = len(living)
	return s, nil
}

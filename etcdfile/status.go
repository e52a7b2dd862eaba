package etcdfile

import (
	"fmt"
	"hash/crc32"
	"io"
	"iter"
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
	t := newTally(meta)
	t.Size = int64(d.pages.header.pages) * int64(d.pages.pageSize)
	for _, bucket := range slices.Sorted(maps.Keys(d.buckets)) {
		t.add([]byte(bucket))
		for e, err := range d.entries(bucket) {
			if err != nil {
				return Status{}, fmt.Errorf("read %s: bucket %q: %w", d.path, bucket, err)
			}
			t.add(e.key, e.value)
		}
	}
	for row, err := range d.Rows() {
		if err == nil {
			err = t.row(row)
		}
		if err != nil {
			return Status{}, err
		}
	}
	return t.status(), nil
}

// StatusOf is the status of the database that Write would make of src, without making it.
func StatusOf(src Source) (Status, error) {
	meta, err := src.Meta()
	if err != nil {
		return Status{}, err
	}
	t := newTally(meta)
	w := &writer{src: tallied{src, t}, pages: newPageWriter(io.Discard), seen: t.add}
	if _, err := w.buckets(); err != nil {
		return Status{}, err
	}
	t.Size = int64(w.pages.next) * pageSize
	return t.status(), nil
}

// tally sums a status up.
type tally struct {
	Status
	living map[string]bool
}

func newTally(meta Meta) *tally {
	return &tally{Status: Status{Version: meta.StorageVersion}, living: map[string]bool{}}
}

// add takes names of buckets, keys and values into the hash.
func (t *tally) add(parts ...[]byte) {
	for _, p := range parts {
		t.Hash = crc32.Update(t.Hash, castagnoli, p)
	}
}

func (t *tally) row(row Row) error {
	v, err := row.KeyValue()
	if err != nil {
		return err
	}
	t.Revision = row.Rev.Main
	if row.Tombstone {
		delete(t.living, string(v.Key))
	} else {
		t.living[string(v.Key)] = true
	}
	return nil
}

func (t *tally) status() Status {
	t.Keys = len(t.living)
	return t.Status
}

// tallied is a source whose rows are counted on their way.
type tallied struct {
	Source
	t *tally
}

// Rows implements Source.
func (s tallied) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for row, err := range s.Source.Rows() {
			if err == nil {
				err = s.t.row(row)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

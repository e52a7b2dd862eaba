package etcdfile

import (
	"bytes"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// StorageVersion is an edit that records the schema's version, as "3.7.0"; empty takes the record away.
func StorageVersion(version string) Edit {
	e := Edit{bucket: bucketMeta, key: keyStorageVersion}
	if version != "" {
		e.value = []byte(version)
	}
	return e
}

// Edit changes one entry of a small bucket.
type Edit struct {
	bucket, key string
	value       []byte // nil: the entry goes
}

// Rewrite copies a database into a new file, without the free pages, and makes edits on the way. What we do not know is copied
// too. As with Write, a crash leaves anything under the name.
func Rewrite(disk vfs.FS, path string, from *Database, edits ...Edit) error {
	_, err := writeNew(disk, path, func(pages *pageWriter) (uint64, error) {
		root := newTreeWriter(pages)
		for _, bucket := range slices.Sorted(maps.Keys(from.buckets)) {
			if err := writeBucket(root, bucket, nil, func(t *treeWriter) error { return from.copyTo(t, bucket, edits) }); err != nil {
				return 0, err
			}
		}
		return root.finishRoot()
	})
	return err
}

// copyTo copies a bucket.
func (d *Database) copyTo(t *treeWriter, bucket string, edits []Edit) error {
	edits = slices.DeleteFunc(slices.Clone(edits), func(e Edit) bool { return e.bucket != bucket })
	if len(edits) > 0 {
		return small(func() (fields, error) { return d.edited(bucket, edits) })(t)
	}
	for e, err := range d.entries(bucket) {
		if err != nil {
			return err
		}
		if err := t.add(e.flags, e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}

// edited is what a small bucket holds after edits.
func (d *Database) edited(bucket string, edits []Edit) (all fields, err error) {
	for e, err := range d.entries(bucket) {
		if err != nil {
			return nil, err
		}
		all.add(string(e.key), bytes.Clone(e.value))
	}
	for _, e := range edits {
		all = slices.DeleteFunc(all, func(f field) bool { return f.key == e.key })
		if e.value != nil {
			all.add(e.key, e.value)
		}
	}
	return all, nil
}

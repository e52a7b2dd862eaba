package etcdfile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/authpb"

	"holdfast/kv"
)

// Stats says what Write wrote.
type Stats struct {
	Rows, Leases int
	// Bytes is the size of the file.
	Bytes int64
	// Revision is that of the last row, 0 without one.
	Revision kv.Revision
}

// Write puts all of src into a new etcd database file and syncs it, so that etcd and its tools accept it. It writes
// sequentially and keeps one page per level of a tree in memory, however large the source. A file of that name must
// not exist; on an error none is left behind. After a crash, what stands under the name is worth nothing unless Write
// returned and the caller then synced the folder.
func Write(disk vfs.FS, path string, src Source) (Stats, error) {
	w := &writer{src: src}
	size, err := writeNew(disk, path, func(pages *pageWriter) (uint64, error) {
		w.pages = pages
		return w.buckets()
	})
	if err != nil {
		return Stats{}, err
	}
	w.stats.Bytes = size
	return w.stats, nil
}

// writeNew makes a database file of what build writes, which returns the root of the tree of buckets.
func writeNew(disk vfs.FS, path string, build func(*pageWriter) (uint64, error)) (size int64, err error) {
	switch _, err := disk.Stat(path); {
	case err == nil:
		return 0, fmt.Errorf("write database %s: %w", path, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("write database %s: %w", path, err)
	}
	size, err = writeFile(disk, path, build)
	if err != nil {
		if gone := disk.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove what was written: %w", gone))
		}
		return 0, fmt.Errorf("write database %s: %w", path, err)
	}
	return size, nil
}

func writeFile(disk vfs.FS, path string, build func(*pageWriter) (uint64, error)) (size int64, err error) {
	f, err := disk.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	pages := newPageWriter(f)
	root, err := build(pages)
	if err != nil {
		return 0, err
	}
	if err := pages.flush(); err != nil {
		return 0, err
	}
	// The headers come last because the root and the number of pages are known last.
	for id := range uint64(headerPages) {
		h := header{pageSize: pageSize, root: root, pages: pages.next, transaction: id}
		if _, err := f.WriteAt(encodeHeader(id, h), int64(id)*pageSize); err != nil {
			return 0, err
		}
	}
	return int64(pages.next) * pageSize, f.Sync()
}

// writer fills the buckets of one file.
type writer struct {
	src   Source
	pages *pageWriter
	stats Stats
	// seen, if set, is told of all names of buckets, keys and values in their order.
	seen func(...[]byte)
}

// buckets writes all buckets and returns the root of their tree.
func (w *writer) buckets() (uint64, error) {
	meta, err := w.src.Meta()
	if err != nil {
		return 0, err
	}
	if err := meta.check(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrSource, err)
	}
	root := newTreeWriter(w.pages)
	for _, b := range []struct {
		name string
		fill func(*treeWriter) error
	}{ // in the order of their names, as the tree wants them
		{bucketAlarm, small(w.alarms)},
		{bucketAuth, small(func() (fields, error) { return meta.fields(bucketAuth) })},
		{bucketAuthRoles, small(w.roles)},
		{bucketAuthUsers, small(w.users)},
		{bucketCluster, small(func() (fields, error) { return meta.fields(bucketCluster) })},
		{bucketKey, w.rows},
		{bucketLease, w.leases},
		{bucketMembers, small(w.members)},
		{bucketRemovedMembers, small(w.removedMembers)},
		{bucketMeta, small(func() (fields, error) { return meta.fields(bucketMeta) })},
	} {
		if w.seen != nil {
			w.seen([]byte(b.name))
		}
		if err := writeBucket(root, b.name, w.seen, b.fill); err != nil {
			return 0, fmt.Errorf("bucket %s: %w", b.name, err)
		}
	}
	return root.finishRoot()
}

// writeBucket writes one bucket and enters it into the tree of buckets.
func writeBucket(root *treeWriter, name string, seen func(...[]byte), fill func(*treeWriter) error) error {
	t := newTreeWriter(root.out)
	t.seen = seen
	if err := fill(t); err != nil {
		return err
	}
	value, err := t.finishBucket()
	if err != nil {
		return err
	}
	return root.add(flagBucket, []byte(name), value)
}

func (w *writer) rows(t *treeWriter) error {
	var key []byte
	for row, err := range w.src.Rows() {
		if err != nil {
			return err
		}
		if err := row.check(); err != nil {
			return fmt.Errorf("%w: revision %v: %w", ErrSource, row.Rev, err)
		}
		key = appendRevision(key[:0], row.Rev, row.Tombstone)
		if err := t.add(0, key, row.Encoded); err != nil {
			return err
		}
		w.stats.Rows++
		w.stats.Revision = row.Rev.Main
	}
	return nil
}

func (w *writer) leases(t *treeWriter) error {
	var key, value []byte
	for l, err := range w.src.Leases() {
		if err != nil {
			return err
		}
		key = binary.BigEndian.AppendUint64(key[:0], uint64(l.ID))
		value = AppendLease(value[:0], l)
		if err := t.add(0, key, value); err != nil {
			return err
		}
		w.stats.Leases++
	}
	return nil
}

func (w *writer) alarms() (fields, error) {
	return collect(w.src.Alarms(), func(a Alarm) (field, error) {
		return field{key: string(appendAlarm(nil, a))}, nil
	})
}

func (w *writer) members() (fields, error) {
	return collect(w.src.Members(), func(m Member) (field, error) {
		value, err := json.Marshal(m)
		return field{key: m.ID.String(), value: value}, err
	})
}

func (w *writer) removedMembers() (fields, error) {
	return collect(w.src.RemovedMembers(), func(id kv.MemberID) (field, error) {
		return field{key: id.String(), value: []byte(removedMark)}, nil
	})
}

func (w *writer) users() (fields, error) { return accounts(w.src.Users(), new(authpb.User)) }
func (w *writer) roles() (fields, error) { return accounts(w.src.Roles(), new(authpb.Role)) }

func accounts(all iter.Seq2[Account, error], kind accountMessage) (fields, error) {
	return collect(all, func(a Account) (field, error) {
		if err := a.check(kind); err != nil {
			return field{}, fmt.Errorf("%w: %w", ErrSource, err)
		}
		return field{key: a.Name, value: slices.Clone(a.Encoded)}, nil
	})
}

// collect turns the items of a small part into entries.
func collect[T any](items iter.Seq2[T, error], encode func(T) (field, error)) (fields, error) {
	var all fields
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		f, err := encode(item)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// small returns a function that fills a bucket with entries that fit in memory.
func small(part func() (fields, error)) func(*treeWriter) error {
	return func(t *treeWriter) error {
		all, err := part()
		if err != nil {
			return err
		}
		slices.SortFunc(all, func(a, b field) int { return strings.Compare(a.key, b.key) })
		for _, f := range all {
			if err := t.add(0, []byte(f.key), f.value); err != nil {
				return err
			}
		}
		return nil
	}
}

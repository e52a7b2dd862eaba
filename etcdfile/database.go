package etcdfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/authpb"

	"holdfast/kv"
)

// digestUnit tells a snapshot from a plain database: pages fill whole units, so a rest of sha256.Size is a digest.
const digestUnit = 512

// Database is an etcd database file, open for reading. Everything that comes out of it was checked; what it reads is
// as old as the file was when Open saw it. Its methods may be used from many goroutines.
type Database struct {
	f       vfs.File
	path    string
	size    int64 // of the database, without the digest
	digest  []byte
	pages   *pageReader
	buckets map[string]tree
}

var _ Source = (*Database)(nil)

// Open opens a database file or a snapshot. As long as it is open, no etcd can write to it; if one does already, the
// error is ErrInUse. What is no bbolt database gives ErrNotDatabase, another program's ErrForeign, a damaged or
// incomplete one ErrCorrupt. The digest is not checked here: CheckDigest reads the whole file.
func Open(disk vfs.FS, path string) (*Database, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	d, err := open(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), f.Close())
	}
	d.path = path
	return d, nil
}

func open(f vfs.File) (*Database, error) {
	if err := lockShared(f); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d := &Database{f: f, size: info.Size(), buckets: map[string]tree{}}
	if d.size%digestUnit == sha256.Size {
		d.size -= sha256.Size
		d.digest = make([]byte, sha256.Size)
		if _, err := f.ReadAt(d.digest, d.size); err != nil && err != io.EOF {
			return nil, fmt.Errorf("read digest: %w", err)
		}
	}
	if d.pages, err = newPageReader(f, d.size); err != nil {
		return nil, err
	}
	return d, d.findBuckets()
}

// findBuckets reads the tree of buckets.
func (d *Database) findBuckets() error {
	for e, err := range d.pages.entries(tree{root: d.pages.root}) {
		if err != nil {
			return fmt.Errorf("list buckets: %w", err)
		}
		if e.flags&flagBucket == 0 {
			return fmt.Errorf("%w: key %q lies outside of any bucket", ErrForeign, e.key)
		}
		if d.buckets[string(e.key)], err = decodeBucket(e.value); err != nil {
			return fmt.Errorf("bucket %q: %w", e.key, err)
		}
	}
	for _, name := range []string{bucketKey, bucketMeta} {
		if _, ok := d.buckets[name]; !ok {
			return fmt.Errorf("%w: it has no bucket %q", ErrForeign, name)
		}
	}
	return nil
}

// Close releases the file.
func (d *Database) Close() error { return d.f.Close() }

// Size returns the bytes of the database, without a snapshot's digest.
func (d *Database) Size() int64 { return d.size }

// CheckDigest compares a snapshot's content with the SHA-256 at its end. The error is ErrNoDigest for a file without
// one, ErrDigest for a damaged file.
func (d *Database) CheckDigest() error {
	if d.digest == nil {
		return fmt.Errorf("check digest of %s: %w", d.path, ErrNoDigest)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(d.f, 0, d.size)); err != nil {
		return fmt.Errorf("check digest of %s: %w", d.path, err)
	}
	if got := sum.Sum(nil); !bytes.Equal(got, d.digest) {
		return fmt.Errorf("check digest of %s: %w: it says %x, the content has %x", d.path, ErrDigest, d.digest, got)
	}
	return nil
}

// entries returns the entries of a bucket; a bucket that does not exist has none, as etcd creates some of them late.
func (d *Database) entries(bucket string) iter.Seq2[entry, error] {
	t, ok := d.buckets[bucket]
	if !ok {
		return func(func(entry, error) bool) {}
	}
	return d.pages.entries(t)
}

// decoded returns the entries of a bucket as decode reads them. Errors name the file, the bucket and the key.
func decoded[T any](d *Database, bucket string, decode func(entry) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for e, err := range d.entries(bucket) {
			if err != nil {
				yield(none, fmt.Errorf("read %s: bucket %s: %w", d.path, bucket, err))
				return
			}
			item, err := decode(e)
			if err == nil && e.flags != 0 {
				err = fmt.Errorf("flags %#x", e.flags)
			}
			if err != nil {
				yield(none, fmt.Errorf("read %s: bucket %s, key %q: %w: %w", d.path, bucket, e.key, ErrCorrupt, err))
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Meta returns what there is one of. It does not judge the schema: SchemaMinor does.
func (d *Database) Meta() (Meta, error) {
	m := Meta{ScheduledCompact: NeverCompacted, FinishedCompact: NeverCompacted}
	for _, bucket := range []string{bucketMeta, bucketCluster, bucketAuth} {
		for _, err := range decoded(d, bucket, func(e entry) (struct{}, error) {
			return struct{}{}, m.setField(bucket, e.key, e.value)
		}) {
			if err != nil {
				return Meta{}, err
			}
		}
	}
	return m, nil
}

// Rows yields every retained revision in ascending order. A row's bytes are valid until the next step.
func (d *Database) Rows() iter.Seq2[Row, error] {
	return decoded(d, bucketKey, func(e entry) (Row, error) {
		rev, tombstone, err := decodeRevision(e.key)
		if err != nil {
			return Row{}, err
		}
		row := Row{Rev: rev, Tombstone: tombstone, Encoded: e.value}
		return row, row.check()
	})
}

// Leases yields every lease in ascending order of its id.
func (d *Database) Leases() iter.Seq2[Lease, error] {
	return decoded(d, bucketLease, func(e entry) (Lease, error) {
		id, err := decodeUint64(e.key)
		if err != nil {
			return Lease{}, err
		}
		l, err := DecodeLease(e.value)
		if err == nil && l.ID != kv.LeaseID(id) {
			err = fmt.Errorf("lease %v is stored as %v", l.ID, kv.LeaseID(id))
		}
		return l, err
	})
}

// Alarms yields the active alarms.
func (d *Database) Alarms() iter.Seq2[Alarm, error] {
	return decoded(d, bucketAlarm, func(e entry) (Alarm, error) { return decodeAlarm(e.key) })
}

// Members yields the configured members.
func (d *Database) Members() iter.Seq2[Member, error] {
	return decoded(d, bucketMembers, func(e entry) (Member, error) {
		id, err := decodeMemberID(e.key)
		if err != nil {
			return Member{}, err
		}
		m := Member{ID: id}
		if err := json.Unmarshal(e.value, &m); err != nil {
			return Member{}, err
		}
		if m.ID != id {
			return Member{}, fmt.Errorf("member %v is stored as %v", m.ID, id)
		}
		return m, nil
	})
}

// RemovedMembers yields the ids that were members once and may not come back.
func (d *Database) RemovedMembers() iter.Seq2[kv.MemberID, error] {
	return decoded(d, bucketRemovedMembers, func(e entry) (kv.MemberID, error) { return decodeMemberID(e.key) })
}

// Users yields the users of auth, Encoded being an authpb.User that is valid until the next step.
func (d *Database) Users() iter.Seq2[Account, error] {
	kind := new(authpb.User)
	return decoded(d, bucketAuthUsers, func(e entry) (Account, error) { return decodeAccount(e, kind) })
}

// Roles yields the roles of auth, Encoded being an authpb.Role that is valid until the next step.
func (d *Database) Roles() iter.Seq2[Account, error] {
	kind := new(authpb.Role)
	return decoded(d, bucketAuthRoles, func(e entry) (Account, error) { return decodeAccount(e, kind) })
}

func decodeAccount(e entry, kind accountMessage) (Account, error) {
	a := Account{Name: string(e.key), Encoded: e.value}
	return a, a.check(kind)
}

// Check reads everything and returns the first thing that is wrong.
func (d *Database) Check() error {
	meta, err := d.Meta()
	if err != nil {
		return err
	}
	if _, err := meta.SchemaMinor(); err != nil {
		return fmt.Errorf("read %s: %w", d.path, err)
	}
	for _, part := range []func() error{
		func() error { return firstError(d.Rows()) },
		func() error { return firstError(d.Leases()) },
		func() error { return firstError(d.Alarms()) },
		func() error { return firstError(d.Members()) },
		func() error { return firstError(d.RemovedMembers()) },
		func() error { return firstError(d.Users()) },
		func() error { return firstError(d.Roles()) },
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func firstError[T any](items iter.Seq2[T, error]) error {
	for _, err := range items {
		if err != nil {
			return err
		}
	}
	return nil
}

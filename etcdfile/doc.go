// Package etcdfile writes and reads etcd's own database file: the bbolt file a client receives from
// Maintenance.Snapshot, a follower receives from its leader, and etcd keeps as member/snap/db.
//
// Write streams a whole member (a Source) into a new file, Open gives the reverse (a Database, itself a Source),
// OpenSnapshot streams a file as clients expect it. snapfile.go adds raft's .snap files. DESIGN.md of this folder has
// the story and the reasons.
//
//	Shape   bbolt: two header pages, then trees of pages; one tree per bucket (page.go draws the bytes)
//	        bucket "key":             revision (17 B, a tombstone's 18 B) -> encoded mvccpb.KeyValue
//	        bucket "meta":            applied index, term, ConfState, schema version, compaction revisions
//	        bucket "lease":           id (8 B, big endian) -> leasepb.Lease
//	        bucket "alarm":           encoded AlarmMember -> empty
//	        bucket "cluster":         cluster version, downgrade
//	        bucket "members":         id (hex) -> JSON; "members_removed": id (hex) -> "removed"
//	        bucket "auth":            enabled, revision; "authUsers", "authRoles": name -> authpb message
//	        a snapshot ends in the SHA-256 (32 B) of all that precedes it
//	Units   sizes in bytes, times to live in whole seconds, as in the etcd v3 API
//	Errors  ErrNotDatabase, ErrForeign, ErrCorrupt, ErrInUse, ErrUnsupportedSchema, ErrNoDigest, ErrDigest, ErrSource,
//	        ErrCompacted, ErrFutureRevision, ErrBadSnap
//	Source  etcd 3.7.3 (server/storage/schema, server/storage/mvcc), bbolt 1.5.0 (page layout)
package etcdfile

import "errors"

var (
	// ErrNotDatabase says that a file is no bbolt database at all: neither header page makes sense.
	ErrNotDatabase = errors.New("not a bbolt database")
	// ErrForeign says that a bbolt database was written by something else than etcd.
	ErrForeign = errors.New("not an etcd database")
	// ErrCorrupt says that a database is damaged or cut short; the text around it names the place.
	ErrCorrupt = errors.New("database is corrupt")
	// ErrInUse says that another process, as a rule a running etcd, holds the database open for writing.
	ErrInUse = errors.New("database is in use by another process")
	// ErrUnsupportedSchema says that the etcd that wrote a database is too old or too new for us.
	ErrUnsupportedSchema = errors.New("unsupported storage schema")
	// ErrNoDigest says that a file does not end in a SHA-256, as a plain copy of member/snap/db does not.
	ErrNoDigest = errors.New("file carries no digest")
	// ErrDigest says that the SHA-256 at the end of a snapshot does not belong to the bytes before it.
	ErrDigest = errors.New("digest does not match the content")
	// ErrSource says that a Source offered Write something that etcd could not have stored.
	ErrSource = errors.New("source breaks a rule of the format")
	// ErrCompacted says that a revision lies below the compacted one.
	ErrCompacted = errors.New("revision is compacted")
	// ErrFutureRevision says that a revision lies above the current one.
	ErrFutureRevision = errors.New("revision is in the future")
)

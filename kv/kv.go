// Package kv is the vocabulary of the store: revisions, leases, key ranges, the requests and results of the data
// API, and their encodings.
//
// Every encoding is byte-compatible with etcd's protobuf messages, because three of them outlive a process: the
// payload of a raft entry is etcd's InternalRaftRequest, a stored value is etcd's mvccpb.KeyValue, and an answer is
// read by clients generated from etcd's .proto files. The hot messages have hand-written codecs here; the cold ones
// use the generated types of etcd's api module.
//
//	Units    revisions count changes of the store and start at 1 (empty); lease TTLs are whole seconds
//	Errors   ErrNotCanonical, ErrMalformed
//	Source   etcd v3 API (rpc.proto, kv.proto, raft_internal.proto); protobuf encoding specification
//
// It depends on nothing else of this module, reads no clock and starts no goroutine.
package kv

import (
	"fmt"
	"strconv"
)

// Revision counts the changes of the store. An empty store is at revision 1; each command that changes something
// adds exactly one, however many keys it touches.
type Revision int64

func (r Revision) String() string { return strconv.FormatInt(int64(r), 10) }

// Rev is the place of one change: the revision of its command and its position within that command, from 0.
type Rev struct {
	Main Revision
	Sub  int64
}

// Less tells whether r happened before o.
func (r Rev) Less(o Rev) bool { return r.Main < o.Main || (r.Main == o.Main && r.Sub < o.Sub) }

func (r Rev) String() string { return fmt.Sprintf("%d.%d", r.Main, r.Sub) }

// LeaseID names a lease; 0 is no lease.
type LeaseID int64

// String is the 16-digit hexadecimal form that etcd's tools print.
func (id LeaseID) String() string { return fmt.Sprintf("%016x", int64(id)) }

// Index is a position in the raft log, from 1.
type Index uint64

// Term is a raft term.
type Term uint64

// MemberID names a configured member of the cluster.
type MemberID uint64

// String is the hexadecimal form, without padding, that etcd logs and stores.
func (id MemberID) String() string { return strconv.FormatUint(uint64(id), 16) }

// Header is what every answer says of who answered and when (etcdserverpb.ResponseHeader).
type Header struct {
	ClusterID uint64
	MemberID  MemberID
	Revision  Revision
	RaftTerm  Term
}

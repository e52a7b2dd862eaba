package etcdfile

import (
	"iter"

	"holdfast/kv"
)

// Source is everything one member holds at one applied index. Write reads each part once, and a part's slices must
// stay untouched only until its next step. An error ends a part and the writing with it.
type Source interface {
	// Meta returns what there is one of.
	Meta() (Meta, error)
	// Rows yields every retained revision in ascending order, Leases every lease in ascending order of its id: they
	// may be too many for memory.
	Rows() iter.Seq2[Row, error]
	Leases() iter.Seq2[Lease, error]
	// The others come in any order; Write holds and sorts them.
	Alarms() iter.Seq2[Alarm, error]
	Members() iter.Seq2[Member, error]
	RemovedMembers() iter.Seq2[kv.MemberID, error]
	// Users and Roles carry encoded authpb.User and authpb.Role messages.
	Users() iter.Seq2[Account, error]
	Roles() iter.Seq2[Account, error]
}

// NeverCompacted stands for the compacted revision of a store that was never compacted: one compacted at 0 exists too.
const NeverCompacted kv.Revision = -1

// Meta is what a database holds one of.
type Meta struct {
	// Applied and Term are those of the last applied raft entry. A Term of 0 was not recorded (before etcd 3.5).
	Applied kv.Index
	Term    kv.Term
	// ConfState is raft's configuration at Applied; nil when it was not recorded (before etcd 3.5).
	ConfState *ConfState
	// StorageVersion is the schema's version as "3.7.0"; empty for one older than etcd 3.6.
	StorageVersion string
	// ScheduledCompact was asked for, FinishedCompact is carried out; NeverCompacted when there was none.
	// Invariant: ScheduledCompact >= FinishedCompact, except in files that lack it.
	ScheduledCompact, FinishedCompact kv.Revision
	// ClusterVersion as "3.7.0"; empty when it was not decided yet.
	ClusterVersion string
	// Downgrade is nil when none was ever asked for.
	Downgrade *Downgrade
	// AuthRevision counts changes of users and roles; 0 when auth never wrote it.
	AuthEnabled  bool
	AuthRevision uint64
}

// Compacted returns the revision below which history is gone: etcd takes a scheduled compaction for done when it
// opens the file, and carries it out then.
func (m Meta) Compacted() kv.Revision { return max(m.ScheduledCompact, m.FinishedCompact) }

// ConfState is raft's configuration: who votes, who learns, and the other half of a change in progress.
// Its JSON form is the one etcd stores.
type ConfState struct {
	Voters         []uint64 `json:"voters,omitempty"`
	Learners       []uint64 `json:"learners,omitempty"`
	VotersOutgoing []uint64 `json:"voters_outgoing,omitempty"`
	LearnersNext   []uint64 `json:"learners_next,omitempty"`
	AutoLeave      bool     `json:"auto_leave"`
}

// Downgrade is the state of a cluster downgrade in etcd's JSON form.
type Downgrade struct {
	TargetVersion string `json:"target-version"`
	Enabled       bool   `json:"enabled"`
}

// Member is a configured member in etcd's JSON form.
type Member struct {
	ID         kv.MemberID `json:"id"`
	PeerURLs   []string    `json:"peerURLs"`
	IsLearner  bool        `json:"isLearner,omitempty"`
	Name       string      `json:"name,omitempty"`
	ClientURLs []string    `json:"clientURLs,omitempty"`
}

// Row is one retained revision of one key.
type Row struct {
	Rev       kv.Rev
	Tombstone bool
	// Encoded is the mvccpb.KeyValue as stored; a tombstone's holds the key alone. It is empty in the row that
	// `etcdutl snapshot restore --bump-revision` leaves: such a row is no key, it only raises the current revision.
	Encoded []byte
}

// Lease is a lease as etcd stores it (leasepb.Lease). Times are in seconds; Remaining is 0 unless a checkpoint was
// taken.
type Lease struct {
	ID             kv.LeaseID
	TTL, Remaining int64
}

// Alarm is an active alarm: Kind as in etcdserverpb.AlarmType (1 NOSPACE, 2 CORRUPT).
type Alarm struct {
	Member kv.MemberID
	Kind   int32
}

// Account is a user or a role: its name and its encoded authpb message, which repeats the name.
type Account struct {
	Name    string
	Encoded []byte
}

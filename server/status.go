package server

import (
	"context"
	"fmt"
	"hash/crc32"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/replica"
	"holdfast/storage"
	"holdfast/util/version"
)

// Status is how a member stands.
type Status struct {
	Version        string // of etcd, whose behaviour the member has
	StorageVersion string // empty while nothing is stored
	// SizeInUse are the encoded bytes of all revisions kept, Quota is the bound of them. Size is what the data takes on disk, but
	// at least SizeInUse: the store compresses, and who compares Size with the quota, or takes their difference for what a
	// defragmentation would bring, must not be misled. Bytes.
	Size, SizeInUse, Quota int64
	Leader                 kv.MemberID // 0 if none is known
	Committed, Applied     kv.Index
	Term                   kv.Term
	IsLearner              bool
	Downgrade              membership.Downgrade
	// Errors are sentences on what is wrong, in etcd's words where etcd has some.
	Errors []string
}

// Status tells how this member stands, without asking others.
func (s *Server) Status() Status {
	r := s.replica.Status()
	status := Status{
		Version: version.EtcdVersion, StorageVersion: storageVersion(s.cluster.Version(), r.Applied > 0),
		SizeInUse: s.keys.SizeInUse(), Quota: s.cfg.Quota,
		Leader: kv.MemberID(r.Leader), Committed: kv.Index(r.Commit), Applied: kv.Index(r.Applied), Term: kv.Term(r.Term),
		IsLearner: s.IsLearner(),
	}
	status.Downgrade, _ = s.cluster.Downgrade()
	status.Size = max(s.store.Size(), status.SizeInUse)
	if status.Leader == 0 {
		status.Errors = append(status.Errors, "etcdserver: no leader")
	}
	for _, a := range s.cluster.Alarms(membership.AlarmNone) {
		status.Errors = append(status.Errors, fmt.Sprintf("memberID:%d alarm:%s", uint64(a.Member), a.Type))
	}
	if s.space.low.Load() {
		status.Errors = append(status.Errors, "holdfast: the disk is nearly full, writes are refused")
	}
	return status
}

// RaftStatus tells how the replica stands.
func (s *Server) RaftStatus() replica.Status { return s.replica.Status() }

// Progress counts the heartbeat intervals in which this member was at work, and tells whether its log or its state machine has had
// work for an election timeout and not moved.
func (s *Server) Progress() (ticks uint64, stalled bool) {
	return s.replica.Ticked(), s.replica.Status().Stalled
}

// IsLearner tells whether this member has no vote.
func (s *Server) IsLearner() bool { return s.cluster.IsLearner(s.id) }

// HasAlarm tells whether any member has raised an alarm of the type.
func (s *Server) HasAlarm(t membership.AlarmType) bool { return s.cluster.HasAlarm(t) }

// hashedTables are those whose rows follow from the log alone: not the cursors in meta, and not the census.
var hashedTables = []storage.Table{
	storage.TableVersions, storage.TableRevisions, storage.TableLease, storage.TableLeaseKey, storage.TableAlarm,
	storage.TableMember, storage.TableMemberRemoved, storage.TableCluster,
}

// Hash sums everything the member holds. Only members of the same kind can compare it.
func (s *Server) Hash(ctx context.Context) (uint32, error) {
	began := s.cfg.Now()
	reader, err := s.store.NewReader()
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, t := range hashedTables {
		err := reader.Each(t, func(body, value []byte) error {
			sum.Write(body)
			sum.Write(value)
			return ctx.Err()
		})
		if err != nil {
			return 0, fmt.Errorf("sum table %s: %w", t, err)
		}
	}
	s.seen.hashes.Took(s.cfg.Now().Sub(began))
	return sum.Sum32(), nil
}

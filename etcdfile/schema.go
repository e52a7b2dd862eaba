package etcdfile

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"holdfast/kv"
)

// Names of etcd's buckets.
const (
	bucketAlarm          = "alarm"
	bucketAuth           = "auth"
	bucketAuthRoles      = "authRoles"
	bucketAuthUsers      = "authUsers"
	bucketCluster        = "cluster"
	bucketKey            = "key"
	bucketLease          = "lease"
	bucketMembers        = "members"
	bucketRemovedMembers = "members_removed"
	bucketMeta           = "meta"
)

// Keys of the buckets meta, cluster and auth.
const (
	keyApplied          = "consistent_index"
	keyTerm             = "term"
	keyConfState        = "confState"
	keyStorageVersion   = "storageVersion"
	keyScheduledCompact = "scheduledCompactRev"
	keyFinishedCompact  = "finishedCompactRev"

	keyClusterVersion = "clusterVersion"
	keyDowngrade      = "downgrade"

	keyAuthEnabled  = "authEnabled"
	keyAuthRevision = "authRevision"
)

// removedMark is the value of every removed member.
const removedMark = "removed"

// Minor versions of etcd 3 whose schema we know. 3.6 began to record the version.
const (
	minorOldest   = 5
	minorRecorded = 6
	minorNewest   = 7
)

// SchemaMinor returns the minor version of the etcd 3 whose schema a database has, as etcd detects it: the recorded
// version, else 3.5 if the raft term is recorded, else ErrUnsupportedSchema.
func (m Meta) SchemaMinor() (int, error) {
	if m.StorageVersion == "" {
		if m.Term == 0 {
			return 0, fmt.Errorf("%w: neither version nor raft term is recorded; etcd 3.4 or older, or one that "+
				"never took a raft snapshot, wrote it", ErrUnsupportedSchema)
		}
		return minorOldest, nil
	}
	major, rest, _ := strings.Cut(m.StorageVersion, ".")
	minor, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(minor)
	if err != nil || major != "3" || n < minorRecorded || n > minorNewest {
		return 0, fmt.Errorf("%w: version %q; 3.%d to 3.%d are known", ErrUnsupportedSchema, m.StorageVersion, minorOldest, minorNewest)
	}
	return n, nil
}

// check looks whether etcd could have stored m.
func (m Meta) check() error {
	if m.ScheduledCompact < m.FinishedCompact {
		return fmt.Errorf("compaction finished at %v, scheduled only at %v", m.FinishedCompact, m.ScheduledCompact)
	}
	if m.FinishedCompact < NeverCompacted {
		return fmt.Errorf("compaction finished at %v", m.FinishedCompact)
	}
	_, err := m.SchemaMinor()
	return err
}

// fields returns the entries of bucket meta, cluster or auth that m stands for. Absent facts have no entry.
func (m Meta) fields(bucket string) (fields, error) {
	var f fields
	var err error
	switch bucket {
	case bucketMeta:
		f.number(keyApplied, uint64(m.Applied))
		f.number(keyTerm, uint64(m.Term))
		f.text(keyStorageVersion, m.StorageVersion)
		f.compact(keyScheduledCompact, m.ScheduledCompact)
		f.compact(keyFinishedCompact, m.FinishedCompact)
		if m.ConfState != nil {
			err = f.json(keyConfState, m.ConfState)
		}
	case bucketCluster:
		f.text(keyClusterVersion, m.ClusterVersion)
		if m.Downgrade != nil {
			err = f.json(keyDowngrade, m.Downgrade)
		}
	case bucketAuth:
		f.number(keyAuthRevision, m.AuthRevision)
		if m.AuthEnabled {
			f.add(keyAuthEnabled, []byte{1})
		}
	}
	return f, err
}

// fields are the entries of a small bucket.
type fields []field

type field struct {
	key   string
	value []byte
}

func (f *fields) add(key string, value []byte) { *f = append(*f, field{key, value}) }

func (f *fields) number(key string, v uint64) {
	if v != 0 {
		f.add(key, binary.BigEndian.AppendUint64(nil, v))
	}
}

func (f *fields) text(key, v string) {
	if v != "" {
		f.add(key, []byte(v))
	}
}

func (f *fields) compact(key string, rev kv.Revision) {
	if rev != NeverCompacted {
		f.add(key, appendRevision(nil, kv.Rev{Main: rev}, false))
	}
}

func (f *fields) json(key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	f.add(key, value)
	return nil
}

// setField puts one entry of meta, cluster or auth into m. Entries we do not know are left alone, as etcd leaves them.
func (m *Meta) setField(bucket string, key, value []byte) (err error) {
	switch bucket + " " + string(key) {
	case bucketMeta + " " + keyApplied:
		m.Applied, err = decodeNumber[kv.Index](value)
	case bucketMeta + " " + keyTerm:
		m.Term, err = decodeNumber[kv.Term](value)
	case bucketMeta + " " + keyConfState:
		err = json.Unmarshal(value, &m.ConfState)
	case bucketMeta + " " + keyStorageVersion:
		m.StorageVersion = string(value)
	case bucketMeta + " " + keyScheduledCompact:
		m.ScheduledCompact, err = decodeCompact(value)
	case bucketMeta + " " + keyFinishedCompact:
		m.FinishedCompact, err = decodeCompact(value)
	case bucketCluster + " " + keyClusterVersion:
		m.ClusterVersion = string(value)
	case bucketCluster + " " + keyDowngrade:
		err = json.Unmarshal(value, &m.Downgrade)
	case bucketAuth + " " + keyAuthEnabled:
		m.AuthEnabled = len(value) == 1 && value[0] == 1
	case bucketAuth + " " + keyAuthRevision:
		m.AuthRevision, err = decodeUint64(value)
	}
	return err
}

func decodeNumber[T ~uint64](b []byte) (T, error) {
	v, err := decodeUint64(b)
	return T(v), err
}

func decodeCompact(b []byte) (kv.Revision, error) {
	rev, _, err := decodeRevision(b)
	return rev.Main, err
}

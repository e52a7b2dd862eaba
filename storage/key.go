package storage

import (
	"encoding/binary"
	"fmt"
	"math"

	"holdfast/kv"
)

// Table is a named part of the database. Its number is the first byte of every key it holds, so it never changes
// its meaning and is never used again.
type Table byte

// The tables, each owned by one package.
const (
	TableMeta          Table = 1  // single rows: applied cursor (storage), state of the key space (mvcc), and others
	TableVersions      Table = 2  // mvcc: user key @ revision -> encoded KeyValue, empty for a tombstone
	TableRevisions     Table = 3  // mvcc: revision -> what it did
	TableCensus        Table = 4  // mvcc: block of neighbouring keys -> number of keys
	TableLease         Table = 5  // lease: lease -> time to live
	TableLeaseKey      Table = 6  // lease: lease, key -> nothing
	TableAlarm         Table = 7  // membership
	TableMember        Table = 8  // membership
	TableMemberRemoved Table = 9  // membership
	TableCluster       Table = 10 // membership: cluster version, downgrade
	TableAuth          Table = 11 // auth: enabled, revision
	TableAuthUser      Table = 12 // auth
	TableAuthRole      Table = 13 // auth
)

var tableNames = [...]string{
	TableMeta: "meta", TableVersions: "versions", TableRevisions: "revisions", TableCensus: "census",
	TableLease: "lease", TableLeaseKey: "lease_key", TableAlarm: "alarm", TableMember: "member",
	TableMemberRemoved: "member_removed", TableCluster: "cluster", TableAuth: "auth", TableAuthUser: "auth_user",
	TableAuthRole: "auth_role",
}

func (t Table) String() string {
	if int(t) < len(tableNames) && tableNames[t] != "" {
		return tableNames[t]
	}
	return fmt.Sprintf("table(%d)", byte(t))
}

// A key ends in the length of its suffix, the length byte included: 0 for a plain row, suffixLen for a version.
const (
	suffixLen = 13
	sentinel  = 0x00
)

// Key is the key of the plain row body in t.
func (t Table) Key(body []byte) []byte {
	return t.AppendKey(make([]byte, 0, len(body)+2), body)
}

// AppendKey adds the key of the plain row body in t to dst.
func (t Table) AppendKey(dst, body []byte) []byte {
	dst = append(dst, byte(t))
	dst = append(dst, body...)
	return append(dst, sentinel)
}

// AppendVersionKey adds the key of the version of body that was written at rev.
func (t Table) AppendVersionKey(dst, body []byte, rev kv.Rev) []byte {
	return appendSuffix(t.AppendKey(dst, body), rev)
}

// end is the key behind the last one of t.
func (t Table) end() []byte { return (t + 1).Key(nil) }

func appendSuffix(dst []byte, rev kv.Rev) []byte {
	if rev.Main < 0 || rev.Sub < 0 || rev.Sub > math.MaxUint32 {
		panic(fmt.Sprintf("storage: revision %s does not fit a key", rev))
	}
	dst = binary.BigEndian.AppendUint64(dst, ^uint64(rev.Main))
	dst = binary.BigEndian.AppendUint32(dst, ^uint32(rev.Sub))
	return append(dst, suffixLen)
}

// decodeSuffix reads the revision out of a suffix of suffixLen bytes.
func decodeSuffix(s []byte) kv.Rev {
	return kv.Rev{
		Main: kv.Revision(^binary.BigEndian.Uint64(s)),
		Sub:  int64(^binary.BigEndian.Uint32(s[8:])),
	}
}

// split returns the length of a key without its suffix. A key whose last byte is no length has no suffix;
// validateKey tells such keys apart.
func split(key []byte) int {
	if len(key) == 0 {
		return 0
	}
	n := int(key[len(key)-1])
	if n > len(key) {
		return len(key)
	}
	return len(key) - n
}

func validateKey(key []byte) error {
	n := len(key)
	switch {
	case n == 0:
		return fmt.Errorf("empty key")
	case key[n-1] == sentinel:
		return nil
	case key[n-1] != suffixLen:
		return fmt.Errorf("key %x ends in %d, which is no suffix length", key, key[n-1])
	case n < suffixLen || (n > suffixLen && key[n-suffixLen-1] != sentinel):
		return fmt.Errorf("key %x has a suffix but no end of its body", key)
	}
	return nil
}

package etcdfile

import (
	"encoding/binary"
	"fmt"

	"holdfast/kv"
)

// The key of a row in bucket "key", and of a compaction revision's value in bucket "meta":
//
//	| main 8, big endian | '_' | sub 8, big endian | 't' for a tombstone |
const (
	revisionBytes  = 17
	tombstoneBytes = 18
	separatorAt    = 8
	separator      = '_'
	tombstoneMark  = 't'
)

// appendRevision adds the key of a row to dst.
func appendRevision(dst []byte, rev kv.Rev, tombstone bool) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(rev.Main))
	dst = append(dst, separator)
	dst = binary.BigEndian.AppendUint64(dst, uint64(rev.Sub))
	if tombstone {
		dst = append(dst, tombstoneMark)
	}
	return dst
}

// decodeRevision reads the key of a row.
func decodeRevision(b []byte) (rev kv.Rev, tombstone bool, err error) {
	switch {
	case len(b) != revisionBytes && len(b) != tombstoneBytes:
		return kv.Rev{}, false, fmt.Errorf("revision of %d bytes, not %d or %d", len(b), revisionBytes, tombstoneBytes)
	case b[separatorAt] != separator:
		return kv.Rev{}, false, fmt.Errorf("revision with separator %q, not %q", b[separatorAt], separator)
	case len(b) == tombstoneBytes && b[revisionBytes] != tombstoneMark:
		return kv.Rev{}, false, fmt.Errorf("revision with mark %q, not %q", b[revisionBytes], tombstoneMark)
	}
	rev.Main = kv.Revision(binary.BigEndian.Uint64(b))
	rev.Sub = int64(binary.BigEndian.Uint64(b[separatorAt+1:]))
	if rev.Main < 0 || rev.Sub < 0 {
		return kv.Rev{}, false, fmt.Errorf("negative revision %v", rev)
	}
	return rev, len(b) == tombstoneBytes, nil
}

// KeyValue decodes the row, whose bytes the result aliases.
func (r Row) KeyValue() (kv.KeyValue, error) { return kv.DecodeKeyValue(r.Encoded) }

// Filler tells whether the row is no key but only raises the current revision.
func (r Row) Filler() bool { return len(r.Encoded) == 0 && !r.Tombstone }

// check looks whether etcd could have stored the row.
func (r Row) check() error {
	if r.Filler() {
		return nil
	}
	v, err := r.KeyValue()
	switch {
	case err != nil:
		return err
	case len(v.Key) == 0:
		return fmt.Errorf("row of an empty key")
	case r.Tombstone && (v.Mod != 0 || len(v.Value) != 0):
		return fmt.Errorf("tombstone of key %q holds more than the key", v.Key)
	case !r.Tombstone && v.Mod != r.Rev.Main:
		return fmt.Errorf("key %q was modified at revision %v", v.Key, v.Mod)
	case !r.Tombstone && (v.Create <= 0 || v.Create > v.Mod || v.Version <= 0):
		return fmt.Errorf("key %q of version %d was created at revision %v, modified at %v", v.Key, v.Version, v.Create, v.Mod)
	}
	return nil
}

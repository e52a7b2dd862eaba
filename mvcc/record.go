package mvcc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"

	"holdfast/kv"
	"holdfast/storage"
)

// kind is what a change did to its key.
type kind byte

const (
	kindCreate kind = 1
	kindUpdate kind = 2
	kindDelete kind = 3
)

// record is the row of one change in the revisions table. It holds what watch catch-up, compaction, hash and census
// ask of a change, so that none of them has to look at the value:
//
//	kind (1) · sum (4, little endian) · size (uvarint) · distance (uvarint) · [sub (uvarint) · before (uvarint)] · key
//
// distance is how many main revisions back the superseded version lies, plus one, 0 if there is none and the two
// fields in brackets are missing.
type record struct {
	kind kind
	// sum is the CRC-32C of etcd's row for this change: its key (revisionKey) followed by its value.
	sum uint32
	// size is the length of the encoded KeyValue; the key of etcd's row is not counted in.
	size int
	// old is the version that this change superseded, if hasOld, and oldSize the size of that.
	hasOld  bool
	old     kv.Rev
	oldSize int
	// key aliases the row when decoded.
	key []byte
}

// etcd's row of a revision has the key main (8) · '_' · sub (8), and a 't' behind it for a tombstone.
const (
	revisionKeyLen  = 17
	tombstoneKeyLen = 18
)

// rowKeyLen is the length of the key of etcd's row.
func (r *record) rowKeyLen() int {
	if r.kind == kindDelete {
		return tombstoneKeyLen
	}
	return revisionKeyLen
}

// bytes is what the change adds to the store's size in use.
func (r *record) bytes() int64 { return int64(r.rowKeyLen() + r.size) }

// oldBytes is what the store's size loses with the superseded version, which is never a tombstone.
func (r *record) oldBytes() int64 { return int64(revisionKeyLen + r.oldSize) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// rowSummer computes the CRC-32C of etcd's rows. It is the scratch for their keys, which would otherwise be allocated
// for every row.
type rowSummer [tombstoneKeyLen]byte

// sum is the CRC-32C of etcd's row at rev with the given value.
func (k *rowSummer) sum(rev kv.Rev, tombstone bool, value []byte) uint32 {
	binary.BigEndian.PutUint64(k[:], uint64(rev.Main))
	k[8] = '_'
	binary.BigEndian.PutUint64(k[9:], uint64(rev.Sub))
	n := revisionKeyLen
	if tombstone {
		k[revisionKeyLen] = 't'
		n = tombstoneKeyLen
	}
	return crc32.Update(crc32.Update(0, castagnoli, k[:n]), castagnoli, value)
}

// append encodes r, the change at rev, behind dst.
func (r *record) append(dst []byte, rev kv.Rev) []byte {
	dst = append(dst, byte(r.kind))
	dst = binary.LittleEndian.AppendUint32(dst, r.sum)
	dst = binary.AppendUvarint(dst, uint64(r.size))
	if r.hasOld {
		dst = binary.AppendUvarint(dst, uint64(rev.Main-r.old.Main)+1)
		dst = binary.AppendUvarint(dst, uint64(r.old.Sub))
		dst = binary.AppendUvarint(dst, uint64(r.oldSize))
	} else {
		dst = append(dst, 0)
	}
	return append(dst, r.key...)
}

// decodeRecord reads the record of the change at rev. Its key aliases b.
func decodeRecord(b []byte, rev kv.Rev) (record, error) {
	var r record
	broken := func() (record, error) {
		return record{}, fmt.Errorf("record of revision %s is broken (%d bytes)", rev, len(b))
	}
	if len(b) < 5 {
		return broken()
	}
	r.kind, r.sum = kind(b[0]), binary.LittleEndian.Uint32(b[1:])
	rest := b[5:]
	uvarint := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			rest = nil
			return 0
		}
		rest = rest[n:]
		return v
	}
	r.size = int(uvarint())
	if distance := uvarint(); distance > 0 {
		r.hasOld = true
		r.old.Main = rev.Main - kv.Revision(distance-1)
		r.old.Sub = int64(uvarint())
		r.oldSize = int(uvarint())
	}
	if r.kind < kindCreate || r.kind > kindDelete || rest == nil {
		return broken()
	}
	r.key = rest
	return r, nil
}

// revBodyLen is the length of a body in the revisions table.
const revBodyLen = 12

// appendRevBody adds the body of rev in the revisions table.
func appendRevBody(dst []byte, rev kv.Rev) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(rev.Main))
	return binary.BigEndian.AppendUint32(dst, uint32(rev.Sub))
}

// appendRevKey adds the key of the record of rev.
func appendRevKey(dst []byte, rev kv.Rev) []byte {
	var body [revBodyLen]byte
	return storage.TableRevisions.AppendKey(dst, appendRevBody(body[:0], rev))
}

func decodeRevBody(b []byte) (kv.Rev, error) {
	if len(b) != revBodyLen {
		return kv.Rev{}, fmt.Errorf("revisions table has a key of %d bytes, not %d", len(b), revBodyLen)
	}
	return kv.Rev{Main: kv.Revision(binary.BigEndian.Uint64(b)), Sub: int64(binary.BigEndian.Uint32(b[8:]))}, nil
}

// appendTombstone adds the value of etcd's row for a deleted key: a KeyValue with nothing but the key.
func appendTombstone(dst, key []byte) []byte {
	v := kv.KeyValue{Key: key}
	return v.Append(dst)
}

// keyOf returns the key of an encoded KeyValue, which our codec puts first.
func keyOf(row []byte) []byte {
	key, n := protowire.ConsumeBytes(row[1:])
	if n < 0 {
		panic(fmt.Sprintf("mvcc: encoded KeyValue of %d bytes does not begin with its key", len(row)))
	}
	return key[:len(key):len(key)]
}

package kv

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// KeyValue is one version of a key (mvccpb.KeyValue). Decoded, its slices alias the bytes it was read from.
type KeyValue struct {
	Key   []byte
	Value []byte
	// Create is the revision of the put that created the key, Mod that of this version.
	Create, Mod Revision
	// Version counts the puts since the creation, from 1. A tombstone has 0.
	Version int64
	Lease   LeaseID
}

// Field numbers of mvccpb.KeyValue.
const (
	fieldKVKey     protowire.Number = 1
	fieldKVCreate  protowire.Number = 2
	fieldKVMod     protowire.Number = 3
	fieldKVVersion protowire.Number = 4
	fieldKVValue   protowire.Number = 5
	fieldKVLease   protowire.Number = 6
)

// Size is the length of the encoding in bytes.
func (v *KeyValue) Size() int {
	return sizeBytes(v.Key) + sizeInt(int64(v.Create)) + sizeInt(int64(v.Mod)) + sizeInt(v.Version) +
		sizeBytes(v.Value) + sizeInt(int64(v.Lease))
}

// Append adds the encoding of v to dst: fields in the order of their numbers, zero fields left out. HashKV sums these
// very bytes, so they equal what etcd stores.
func (v *KeyValue) Append(dst []byte) []byte {
	dst = appendBytes(dst, fieldKVKey, v.Key)
	dst = appendInt(dst, fieldKVCreate, int64(v.Create))
	dst = appendInt(dst, fieldKVMod, int64(v.Mod))
	dst = appendInt(dst, fieldKVVersion, v.Version)
	dst = appendBytes(dst, fieldKVValue, v.Value)
	return appendInt(dst, fieldKVLease, int64(v.Lease))
}

// DecodeKeyValue reads an encoded KeyValue. The result aliases b.
func DecodeKeyValue(b []byte) (KeyValue, error) {
	var v KeyValue
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case fieldKVKey:
			v.Key = r.bytes()
		case fieldKVCreate:
			v.Create = Revision(r.int64())
		case fieldKVMod:
			v.Mod = Revision(r.int64())
		case fieldKVVersion:
			v.Version = r.int64()
		case fieldKVValue:
			v.Value = r.bytes()
		case fieldKVLease:
			v.Lease = LeaseID(r.int64())
		default:
			r.fail()
		}
	}
	if r.err != nil {
		return KeyValue{}, fmt.Errorf("decode KeyValue of %d bytes: %w", len(b), r.err)
	}
	return v, nil
}

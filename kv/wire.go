package kv

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrNotCanonical says that bytes are not in the form the hand-written decoders accept: known fields of the expected
// wire type, each message field at most once. They may still be valid protobuf; the generated code decides.
var ErrNotCanonical = errors.New("not in canonical protobuf form")

// ErrMalformed says that bytes are no valid protobuf of the message asked for.
var ErrMalformed = errors.New("malformed protobuf")

// reader walks the fields of one message. After an error every getter returns zero and next is false.
type reader struct {
	rest []byte
	num  protowire.Number
	typ  protowire.Type
	err  error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = ErrNotCanonical
	}
}

// next moves to the next field; its value must then be taken by exactly one getter.
func (r *reader) next() bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	// Tags of fields 1 to 15 are one byte; the others take the general path.
	if b := r.rest[0]; b < 0x80 {
		r.num, r.typ, r.rest = protowire.Number(b>>3), protowire.Type(b&7), r.rest[1:]
		if r.num == 0 {
			r.fail()
			return false
		}
		return true
	}
	num, typ, n := protowire.ConsumeTag(r.rest)
	if n < 0 {
		r.fail()
		return false
	}
	r.num, r.typ, r.rest = num, typ, r.rest[n:]
	return true
}

func (r *reader) varint() uint64 {
	if r.typ != protowire.VarintType {
		r.fail()
		return 0
	}
	v, n := protowire.ConsumeVarint(r.rest)
	if n < 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) int64() int64 { return int64(r.varint()) }
func (r *reader) int32() int32 { return int32(r.varint()) }
func (r *reader) bool() bool   { return r.varint() != 0 }

// bytes returns the field's content, aliasing the input, its capacity cut so that an append cannot reach beyond it.
func (r *reader) bytes() []byte {
	if r.typ != protowire.BytesType {
		r.fail()
		return nil
	}
	v, n := protowire.ConsumeBytes(r.rest)
	if n < 0 {
		r.fail()
		return nil
	}
	r.rest = r.rest[n:]
	return v[:len(v):len(v)]
}

func appendTag(dst []byte, num protowire.Number, typ protowire.Type) []byte {
	return protowire.AppendTag(dst, num, typ)
}

// appendInt adds a varint field, or nothing for zero as proto3 does.
func appendInt(dst []byte, num protowire.Number, v int64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(appendTag(dst, num, protowire.VarintType), uint64(v))
}

func appendBool(dst []byte, num protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return append(appendTag(dst, num, protowire.VarintType), 1)
}

// appendBytes adds a bytes field, or nothing for an empty one as proto3 does.
func appendBytes(dst []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return protowire.AppendBytes(appendTag(dst, num, protowire.BytesType), v)
}

// appendLen opens a message field of n bytes; an empty message is still there, as a length of 0.
func appendLen(dst []byte, num protowire.Number, n int) []byte {
	return protowire.AppendVarint(appendTag(dst, num, protowire.BytesType), uint64(n))
}

// The size functions below are for the fields that the append functions write; all field numbers in use with them
// are below 16, so a tag is one byte.

func sizeInt(v int64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(uint64(v))
}

func sizeBool(v bool) int {
	if !v {
		return 0
	}
	return 2
}

func sizeBytes(v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return sizeMessage(len(v))
}

// sizeMessage is the size of a field that holds n bytes, tag and length included.
func sizeMessage(n int) int { return 1 + protowire.SizeBytes(n) }

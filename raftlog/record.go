package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A Type says what a record holds. The numbers are etcd's.
type Type uint8

// The record types.
const (
	TypeMetadata Type = 1 // Metadata; second record of every segment
	TypeEntry    Type = 2 // raftpb.Entry
	TypeState    Type = 3 // HardState
	TypeCRC      Type = 4 // no data; first record of every segment, its sum is the one the segment before ended with
	TypeSnapshot Type = 5 // SnapshotRecord
)

func (t Type) String() string {
	switch t {
	case TypeMetadata:
		return "metadata"
	case TypeEntry:
		return "entry"
	case TypeState:
		return "state"
	case TypeCRC:
		return "crc"
	case TypeSnapshot:
		return "snapshot"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

const (
	frameHeaderBytes = 8
	sectorBytes      = 512 // what a disk writes whole or not at all; etcd's reader reckons with the same number
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameLength returns the length field of a record of n bytes and how many zero bytes follow it. Records end on 8 bytes
// so that a length field never lies across two sectors and is therefore never torn.
func frameLength(n int) (field uint64, padding int) {
	padding = -n & 7
	field = uint64(n)
	if padding != 0 {
		field |= uint64(0x80|padding) << 56
	}
	return field, padding
}

// parseLength is the inverse of frameLength and accepts nothing that frameLength does not make: a flipped bit in a length
// field shows here or as a record that does not fill its frame.
func parseLength(field uint64) (n int64, padding int64, ok bool) {
	n = int64(field & (1<<56 - 1))
	want, pad := frameLength(int(n))
	return n, int64(pad), field == want && n > 0
}

// appendRecord appends one framed record whose data is head followed by body, and returns the rolling sum after it.
// Two parts save the copy that joining an entry's few header bytes with its payload would cost.
func appendRecord(dst []byte, crc uint32, t Type, head, body []byte) ([]byte, uint32) {
	crc = crc32.Update(crc, castagnoli, head)
	crc = crc32.Update(crc, castagnoli, body)
	n := 2 + 1 + uvarintLen(uint64(crc))
	data := len(head) + len(body)
	if data > 0 {
		n += 1 + uvarintLen(uint64(data)) + data
	}
	field, padding := frameLength(n)
	dst = binary.LittleEndian.AppendUint64(dst, field)
	dst = append(dst, 0x08, byte(t), 0x10)
	dst = binary.AppendUvarint(dst, uint64(crc))
	if data > 0 {
		dst = append(dst, 0x1a)
		dst = binary.AppendUvarint(dst, uint64(data))
		dst = append(dst, head...)
		dst = append(dst, body...)
	}
	return append(dst, zeroes[:padding]...), crc
}

var zeroes [8]byte

// parseRecord reads the record that fills b. Only the one encoding that appendRecord and etcd make is accepted: the
// checksum covers the data alone, so strictness is what notices a flipped bit in the bytes around it.
func parseRecord(b []byte) (t Type, crc uint32, data []byte, ok bool) {
	if len(b) < 4 || b[0] != 0x08 || b[1] < byte(TypeMetadata) || b[1] > byte(TypeSnapshot) || b[2] != 0x10 {
		return 0, 0, nil, false
	}
	t, b = Type(b[1]), b[3:]
	sum, b, ok := cutUvarint(b)
	if !ok || sum > 1<<32-1 {
		return 0, 0, nil, false
	}
	if len(b) == 0 {
		return t, uint32(sum), nil, true
	}
	if b[0] != 0x1a {
		return 0, 0, nil, false
	}
	n, b, ok := cutUvarint(b[1:])
	if !ok || n == 0 || n != uint64(len(b)) {
		return 0, 0, nil, false
	}
	return t, uint32(sum), b, true
}

// parseFrame reads the framed record at the start of b. ok is false when there is none that is whole.
func parseFrame(b []byte) (f frame, ok bool) {
	if len(b) < frameHeaderBytes {
		return frame{}, false
	}
	n, pad, ok := parseLength(binary.LittleEndian.Uint64(b))
	if !ok || n > int64(len(b))-frameHeaderBytes-pad {
		return frame{}, false
	}
	f.size = frameHeaderBytes + n + pad
	f.typ, f.crc, f.data, ok = parseRecord(b[frameHeaderBytes : frameHeaderBytes+n])
	return f, ok && allZero(b[frameHeaderBytes+n:f.size])
}

// A frame is one record as it stands in a segment.
type frame struct {
	typ  Type
	crc  uint32 // as stored: the rolling sum up to and including data
	data []byte
	size int64 // of the whole frame
}

// follows reports whether the stored sum is right when crc was the sum before the record.
func (f frame) follows(crc uint32) bool {
	return f.typ != TypeCRC && crc32.Update(crc, castagnoli, f.data) == f.crc
}

func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

// cutUvarint splits a varint off b; an encoding longer than needed is refused.
func cutUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

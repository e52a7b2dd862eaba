package etcdfile

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

// A bbolt file is a row of pages of one size. Numbers are in the byte order of the machine that wrote them; every
// machine etcd supports officially is little endian, and so are we.
//
//	page            | id 8 | kind 2 | count 2 | overflow 4 | count elements of 16 | their bytes … |
//	                  overflow = how many further pages the content runs on into
//	branch element  | position 4 | key length 4 | child page 8 |
//	leaf element    | flags 4 | position 4 | key length 4 | value length 4 |
//	                  position counts from the element's own first byte; the value follows its key
//	bucket          | root page 8 | sequence 8 | — a leaf value with flagBucket; root 0 = the root page itself follows
//	header page     | page header 16 | magic 4 | version 4 | page size 4 | flags 4 | root bucket 16 |
//	                | free list page 8 | page count 8 | transaction 8 | FNV-64a of the 56 bytes before 8 |
//
// Pages 0 and 1 are headers; the valid one of the higher transaction counts.
const (
	pageHeaderSize  = 16
	elementSize     = 16
	bucketValueSize = 16
	headerBodySize  = 64

	kindBranch uint16 = 0x01
	kindLeaf   uint16 = 0x02
	kindHeader uint16 = 0x04

	flagBucket uint32 = 0x01

	magic         uint32 = 0xED0CDAED
	formatVersion uint32 = 2
	headerPages          = 2

	// noFreeList in a header says that free pages are found by walking the trees. etcd writes the same.
	noFreeList = ^uint64(0)

	// keyBytesMax and valueBytesMax are bbolt's limits.
	keyBytesMax   = 32768
	valueBytesMax = 1<<31 - 2
)

// header is what a header page says.
type header struct {
	pageSize    int
	root        uint64 // page of the tree of buckets
	pages       uint64 // pages in use, counted from the start of the file; what follows is unused space
	transaction uint64
}

// encodeHeader returns header page number id.
func encodeHeader(id uint64, h header) []byte {
	p := make([]byte, h.pageSize)
	putPageHeader(p, id, kindHeader, 0, 0)
	b := p[pageHeaderSize:]
	binary.LittleEndian.PutUint32(b[0:], magic)
	binary.LittleEndian.PutUint32(b[4:], formatVersion)
	binary.LittleEndian.PutUint32(b[8:], uint32(h.pageSize))
	binary.LittleEndian.PutUint64(b[16:], h.root)
	binary.LittleEndian.PutUint64(b[32:], noFreeList)
	binary.LittleEndian.PutUint64(b[40:], h.pages)
	binary.LittleEndian.PutUint64(b[48:], h.transaction)
	binary.LittleEndian.PutUint64(b[56:], headerSum(b))
	return p
}

// decodeHeader reads the start of a header page. The checksum makes everything behind it trustworthy.
func decodeHeader(p []byte) (header, error) {
	b := p[pageHeaderSize:]
	switch {
	case binary.LittleEndian.Uint32(b) != magic:
		return header{}, fmt.Errorf("magic %#x, not %#x", binary.LittleEndian.Uint32(b), magic)
	case binary.LittleEndian.Uint32(b[4:]) != formatVersion:
		return header{}, fmt.Errorf("bbolt format %d, not %d", binary.LittleEndian.Uint32(b[4:]), formatVersion)
	case binary.LittleEndian.Uint64(b[56:]) != headerSum(b):
		return header{}, fmt.Errorf("checksum %#x, not %#x", binary.LittleEndian.Uint64(b[56:]), headerSum(b))
	}
	return header{
		pageSize:    int(binary.LittleEndian.Uint32(b[8:])),
		root:        binary.LittleEndian.Uint64(b[16:]),
		pages:       binary.LittleEndian.Uint64(b[40:]),
		transaction: binary.LittleEndian.Uint64(b[48:]),
	}, nil
}

func headerSum(body []byte) uint64 {
	sum := fnv.New64a()
	sum.Write(body[:headerBodySize-8])
	return sum.Sum64()
}

func putPageHeader(p []byte, id uint64, kind uint16, count, overflow int) {
	binary.LittleEndian.PutUint64(p[0:], id)
	binary.LittleEndian.PutUint16(p[8:], kind)
	binary.LittleEndian.PutUint16(p[10:], uint16(count))
	binary.LittleEndian.PutUint32(p[12:], uint32(overflow))
}

// page is one branch or leaf page as read, overflow pages included.
// Invariant: checkPage passed, so elements may be asked for without further checks of the frame.
type page []byte

func (p page) id() uint64    { return binary.LittleEndian.Uint64(p[0:]) }
func (p page) kind() uint16  { return binary.LittleEndian.Uint16(p[8:]) }
func (p page) count() int    { return int(binary.LittleEndian.Uint16(p[10:])) }
func (p page) overflow() int { return int(binary.LittleEndian.Uint32(p[12:])) }

// checkPage looks whether p is page id of a tree and has room for the elements it announces.
func checkPage(p page, id uint64) error {
	if p.id() != id {
		return fmt.Errorf("%w: page %d says it is page %d", ErrCorrupt, id, p.id())
	}
	if p.kind() != kindBranch && p.kind() != kindLeaf {
		return fmt.Errorf("%w: page %d is of kind %#x, neither branch nor leaf", ErrCorrupt, id, p.kind())
	}
	if pageHeaderSize+p.count()*elementSize > len(p) {
		return fmt.Errorf("%w: page %d of %d bytes announces %d elements", ErrCorrupt, id, len(p), p.count())
	}
	return nil
}

// branch returns the key and the child of element i of a branch page.
func (p page) branch(i int) (key []byte, child uint64, err error) {
	e := p[pageHeaderSize+i*elementSize:]
	key, err = p.slice(i, binary.LittleEndian.Uint32(e[0:]), 0, binary.LittleEndian.Uint32(e[4:]))
	return key, binary.LittleEndian.Uint64(e[8:]), err
}

// leaf returns element i of a leaf page.
func (p page) leaf(i int) (entry, error) {
	e := p[pageHeaderSize+i*elementSize:]
	pos, keyLen := binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:])
	key, err := p.slice(i, pos, 0, keyLen)
	if err != nil {
		return entry{}, err
	}
	value, err := p.slice(i, pos, keyLen, binary.LittleEndian.Uint32(e[12:]))
	return entry{flags: binary.LittleEndian.Uint32(e[0:]), key: key, value: value}, err
}

// slice returns length bytes that begin skip bytes behind position pos of element i.
func (p page) slice(i int, pos, skip, length uint32) ([]byte, error) {
	from := int64(pageHeaderSize+i*elementSize) + int64(pos) + int64(skip)
	to := from + int64(length)
	if to > int64(len(p)) {
		return nil, fmt.Errorf("%w: element %d of page %d ends at byte %d of %d", ErrCorrupt, i, p.id(), to, len(p))
	}
	return p[from:to:to], nil
}

// entry is one element of a leaf page.
type entry struct {
	flags      uint32
	key, value []byte
}

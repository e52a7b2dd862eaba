package etcdfile

import (
	"encoding/binary"
	"io"
	"slices"
)

const (
	// pageSize of the files we write: that of nearly every etcd, whatever machine we run on, so that the same state
	// gives the same bytes everywhere. etcd opens a file of any page size.
	pageSize = 4096

	// writeBufferBytes gathers pages into large sequential writes; 1 MiB is past the point where size still matters.
	writeBufferBytes = 1 << 20
)

// pageWriter appends pages to a file. Pages get their numbers in the order they are written.
type pageWriter struct {
	w    io.Writer
	buf  []byte // pages not written yet; a vfs file may change what it writes, so nothing else is handed to it
	next uint64 // number of the next page
}

// newPageWriter leaves room for the header pages, which are known last.
func newPageWriter(w io.Writer) *pageWriter {
	return &pageWriter{w: w, buf: make([]byte, headerPages*pageSize, writeBufferBytes), next: headerPages}
}

// append writes elements from up to to of n as one page and returns its number.
func (w *pageWriter) append(n *node, from, to int) (uint64, error) {
	id := w.next
	size := n.sizeOf(from, to)
	pages := (size + pageSize - 1) / pageSize
	w.buf = n.appendHead(w.buf, id, from, to, pages-1)
	w.buf = append(w.buf, n.content(from, to)...)
	w.buf = append(w.buf, zeros[:pages*pageSize-size]...)
	w.next += uint64(pages)
	if len(w.buf) < writeBufferBytes {
		return id, nil
	}
	return id, w.flush()
}

// flush writes the pages that are still in memory.
func (w *pageWriter) flush() error {
	_, err := w.w.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// zeros fill a page up.
var zeros [pageSize]byte

// node collects the elements of pages of one level before they are written.
type node struct {
	kind     uint16
	elements []element
	bytes    []byte // keys (and values) of the elements, one after the other
}

// element is one key of a node. A leaf's has a value and flags, a branch's a child.
type element struct {
	start            int // where its key begins in bytes
	keyLen, valueLen int
	flags            uint32
	child            uint64
}

// add appends an element; key and value are copied.
func (n *node) add(e element, key, value []byte) {
	e.start, e.keyLen, e.valueLen = len(n.bytes), len(key), len(value)
	n.bytes = append(append(n.bytes, key...), value...)
	n.elements = append(n.elements, e)
}

// drop forgets the first count elements.
func (n *node) drop(count int) {
	cut := n.offset(count)
	n.bytes = n.bytes[:copy(n.bytes, n.bytes[cut:])]
	n.elements = n.elements[:copy(n.elements, n.elements[count:])]
	for i := range n.elements {
		n.elements[i].start -= cut
	}
}

// offset returns where element i begins in bytes; i may be one past the last.
func (n *node) offset(i int) int {
	if i == len(n.elements) {
		return len(n.bytes)
	}
	return n.elements[i].start
}

// key returns the key of element i.
func (n *node) key(i int) []byte {
	e := n.elements[i]
	return n.bytes[e.start : e.start+e.keyLen]
}

func (n *node) content(from, to int) []byte { return n.bytes[n.offset(from):n.offset(to)] }

// sizeOf returns how many bytes a page with the elements from up to to takes.
func (n *node) sizeOf(from, to int) int {
	return pageHeaderSize + (to-from)*elementSize + n.offset(to) - n.offset(from)
}

// appendHead adds the part of a page that precedes the keys: its header and its elements.
func (n *node) appendHead(dst []byte, id uint64, from, to, overflow int) []byte {
	count := to - from
	at := len(dst)
	dst = slices.Grow(dst, pageHeaderSize+count*elementSize)[:at+pageHeaderSize+count*elementSize]
	head := dst[at:]
	putPageHeader(head, id, n.kind, count, overflow)
	for i, e := range n.elements[from:to] {
		b := head[pageHeaderSize+i*elementSize:]
		position := uint32((count-i)*elementSize + e.start - n.offset(from))
		if n.kind == kindBranch {
			binary.LittleEndian.PutUint32(b[0:], position)
			binary.LittleEndian.PutUint32(b[4:], uint32(e.keyLen))
			binary.LittleEndian.PutUint64(b[8:], e.child)
			continue
		}
		binary.LittleEndian.PutUint32(b[0:], e.flags)
		binary.LittleEndian.PutUint32(b[4:], position)
		binary.LittleEndian.PutUint32(b[8:], uint32(e.keyLen))
		binary.LittleEndian.PutUint32(b[12:], uint32(e.valueLen))
	}
	return dst
}

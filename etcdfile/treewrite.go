package etcdfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	// inlineBytesMax is the largest root page that lives inside its bucket's value instead of on a page of its own.
	// It is bbolt's own limit.
	inlineBytesMax = pageSize / 4

	// childrenMin is how many children every branch page must have: bbolt panics when it deletes below a branch
	// with a single child.
	childrenMin = 2
)

// treeWriter builds one tree from keys in ascending order, from the leaves up: a page is written as soon as it is
// full, and of each level only the page in progress stays in memory. Nothing is ever rewritten.
type treeWriter struct {
	out      *pageWriter
	leaf     node
	branches []*node // branches[0] stands above the leaves
	last     []byte  // the key added last
	count    int
	seen     func(...[]byte) // may be nil; told of each key and value
}

func newTreeWriter(out *pageWriter) *treeWriter {
	return &treeWriter{out: out, leaf: node{kind: kindLeaf}}
}

// add appends a key, which must be greater than all before it. Key and value are copied.
func (t *treeWriter) add(flags uint32, key, value []byte) error {
	switch {
	case len(key) == 0 || len(key) > keyBytesMax:
		return fmt.Errorf("%w: key of %d bytes; 1 to %d are possible", ErrSource, len(key), keyBytesMax)
	case len(value) > valueBytesMax:
		return fmt.Errorf("%w: value of %d bytes; at most %d are possible", ErrSource, len(value), valueBytesMax)
	case t.count > 0 && bytes.Compare(key, t.last) <= 0:
		return fmt.Errorf("%w: key %q does not ascend after %q", ErrSource, key, t.last)
	}
	n := len(t.leaf.elements)
	if n > 0 && t.leaf.sizeOf(0, n)+elementSize+len(key)+len(value) > pageSize {
		if err := t.flushLeaf(); err != nil {
			return err
		}
	}
	if t.seen != nil {
		t.seen(key, value)
	}
	t.leaf.add(element{flags: flags}, key, value)
	t.last = append(t.last[:0], key...)
	t.count++
	return nil
}

func (t *treeWriter) flushLeaf() error {
	n := len(t.leaf.elements)
	id, err := t.out.append(&t.leaf, 0, n)
	if err != nil {
		return err
	}
	if err := t.addChild(0, t.leaf.key(0), id); err != nil {
		return err
	}
	t.leaf.drop(n)
	return nil
}

// addChild enters a written page into the branch level above it. The level's page is written once it is full and
// enough children have come for another one.
func (t *treeWriter) addChild(level int, key []byte, child uint64) error {
	if level == len(t.branches) {
		t.branches = append(t.branches, &node{kind: kindBranch})
	}
	b := t.branches[level]
	b.add(element{child: child}, key, nil)
	if full := childrenThatFit(b); len(b.elements)-full >= childrenMin {
		return t.flushBranch(level, full)
	}
	return nil
}

// flushBranch writes the first count children of a level as one page.
func (t *treeWriter) flushBranch(level, count int) error {
	b := t.branches[level]
	id, err := t.out.append(b, 0, count)
	if err != nil {
		return err
	}
	if err := t.addChild(level+1, b.key(0), id); err != nil {
		return err
	}
	b.drop(count)
	return nil
}

// childrenThatFit returns how many leading children fill one page: at least childrenMin, however long their keys.
func childrenThatFit(b *node) int {
	n := len(b.elements)
	for n > childrenMin && b.sizeOf(0, n) > pageSize {
		n--
	}
	return n
}

// finishRoot writes what is left and returns the page of the tree's root.
func (t *treeWriter) finishRoot() (uint64, error) {
	if len(t.branches) == 0 {
		return t.out.append(&t.leaf, 0, len(t.leaf.elements))
	}
	if err := t.flushLeaf(); err != nil {
		return 0, err
	}
	for level := 0; ; level++ {
		b := t.branches[level]
		n := len(b.elements)
		if full := childrenThatFit(b); full < n && full > childrenMin {
			// One child too many: the last page takes a second one along, as none may have a single child.
			if err := t.flushBranch(level, n-childrenMin); err != nil {
				return 0, err
			}
			n = childrenMin
		}
		if level == len(t.branches)-1 {
			return t.out.append(b, 0, n)
		}
		if err := t.flushBranch(level, n); err != nil {
			return 0, err
		}
	}
}

// finishBucket writes what is left and returns the value that stands for the bucket in the tree of buckets.
func (t *treeWriter) finishBucket() ([]byte, error) {
	value := make([]byte, bucketValueSize)
	if n := len(t.leaf.elements); len(t.branches) == 0 && t.leaf.sizeOf(0, n) <= inlineBytesMax {
		value = t.leaf.appendHead(value, 0, 0, n, 0)
		return append(value, t.leaf.content(0, n)...), nil
	}
	root, err := t.finishRoot()
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint64(value, root)
	return value, nil
}

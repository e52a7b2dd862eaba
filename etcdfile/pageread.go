package etcdfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
)

const (
	// depthMax bounds the walk down a tree. Branch pages of real files have dozens of children, so a tree this deep
	// would not fit on any disk: deeper means that pages point in a circle.
	depthMax = 24

	// pageSizeMin and pageSizeMax are the page sizes bbolt looks for; powers of two between them.
	pageSizeMin = 1 << 10
	pageSizeMax = 1 << 24
)

// pageReader reads pages of a file and believes none of them: every number that leads somewhere is checked first, so
// that damage ends in an error that names the page.
type pageReader struct {
	r io.ReaderAt
	header
}

// newPageReader finds the header of a file whose database takes size bytes.
func newPageReader(r io.ReaderAt, size int64) (*pageReader, error) {
	if size < headerPages*pageSizeMin {
		return nil, fmt.Errorf("%w: %d bytes hold no header", ErrNotDatabase, size)
	}
	h, err := findHeader(r, size)
	if err != nil {
		return nil, err
	}
	if h.pageSize < pageSizeMin || h.pageSize > pageSizeMax || h.pageSize&(h.pageSize-1) != 0 {
		return nil, fmt.Errorf("%w: pages of %d bytes", ErrCorrupt, h.pageSize)
	}
	if held := uint64(size) / uint64(h.pageSize); h.pages > held {
		return nil, fmt.Errorf("%w: cut short, %d of its %d pages of %d bytes are there",
			ErrCorrupt, held, h.pages, h.pageSize)
	}
	return &pageReader{r: r, header: h}, nil
}

// findHeader returns the valid header of the higher transaction. The second one stands a page further, and how far
// that is only a header tells: without a valid first one all possible page sizes are tried, as bbolt does.
func findHeader(r io.ReaderAt, size int64) (header, error) {
	best, invalid, err := readHeader(r, 0)
	if err != nil {
		return header{}, err
	}
	for at := int64(pageSizeMin); at <= pageSizeMax && at+pageHeaderSize+headerBodySize <= size; at *= 2 {
		if invalid == nil && at != int64(best.pageSize) {
			continue
		}
		h, bad, err := readHeader(r, at)
		if err != nil {
			return header{}, err
		}
		if bad != nil || int64(h.pageSize) != at {
			continue
		}
		if invalid != nil || h.transaction > best.transaction {
			best, invalid = h, nil
		}
		break
	}
	if invalid != nil {
		return header{}, fmt.Errorf("%w: no valid header page (the first: %w)", ErrNotDatabase, invalid)
	}
	return best, nil
}

// readHeader reads a header page at some byte: invalid says why it is none, err that it could not be read.
func readHeader(r io.ReaderAt, at int64) (h header, invalid, err error) {
	var p [pageHeaderSize + headerBodySize]byte
	if _, err := r.ReadAt(p[:], at); err != nil {
		return header{}, nil, fmt.Errorf("read header at byte %d: %w", at, err)
	}
	h, invalid = decodeHeader(p[:])
	return h, invalid, nil
}

// read returns page id, using buf if it is large enough.
func (r *pageReader) read(id uint64, buf []byte) (page, error) {
	if id < headerPages || id >= r.pages {
		return nil, fmt.Errorf("%w: reference to page %d of %d", ErrCorrupt, id, r.pages)
	}
	p, err := r.readPages(id, 1, buf)
	if err != nil {
		return nil, err
	}
	if more := uint64(p.overflow()); more > 0 {
		if more >= r.pages-id {
			return nil, fmt.Errorf("%w: page %d runs on into %d further pages of %d", ErrCorrupt, id, more, r.pages)
		}
		if p, err = r.readPages(id, int(more)+1, p); err != nil {
			return nil, err
		}
	}
	return p, checkPage(p, id)
}

func (r *pageReader) readPages(id uint64, count int, buf []byte) (page, error) {
	size := count * r.pageSize
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	n, err := r.r.ReadAt(buf, int64(id)*int64(r.pageSize))
	if n < size {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return buf, nil
}

// tree is a bucket's root: a page of the file, or a page kept inside the bucket's value.
type tree struct {
	root   uint64
	inline page // nil: root is a page of the file
}

// decodeBucket reads the value that stands for a bucket in the tree of buckets.
func decodeBucket(value []byte) (tree, error) {
	if len(value) < bucketValueSize {
		return tree{}, fmt.Errorf("%w: bucket in %d bytes", ErrCorrupt, len(value))
	}
	root := binary.LittleEndian.Uint64(value)
	if root != 0 {
		return tree{root: root}, nil
	}
	if len(value) < bucketValueSize+pageHeaderSize {
		return tree{}, fmt.Errorf("%w: bucket without a page", ErrCorrupt)
	}
	inline := page(bytes.Clone(value[bucketValueSize:]))
	if inline.kind() != kindLeaf {
		return tree{}, fmt.Errorf("%w: page inside a bucket is of kind %#x, not a leaf", ErrCorrupt, inline.kind())
	}
	return tree{inline: inline}, checkPage(inline, 0)
}

// entries returns the entries of t in ascending order. An entry is valid until the next step; an error is the last
// thing that comes.
func (r *pageReader) entries(t tree) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		w := &walk{r: r, yield: yield}
		var err error
		if t.inline != nil {
			err = w.leaf(t.inline)
		} else {
			err = w.page(t.root, 0)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(entry{}, err)
		}
	}
}

// errStopped ends a walk whose consumer has enough.
var errStopped = errors.New("stopped")

// walk visits one tree in order.
type walk struct {
	r     *pageReader
	yield func(entry, error) bool
	bufs  [depthMax][]byte // one page per level
	last  []byte           // the key yielded last; that keys ascend also proves that no page is visited twice
}

func (w *walk) page(id uint64, depth int) error {
	if depth == depthMax {
		return fmt.Errorf("%w: page %d lies %d pages deep, so pages point in a circle", ErrCorrupt, id, depth)
	}
	p, err := w.r.read(id, w.bufs[depth])
	if err != nil {
		return err
	}
	w.bufs[depth] = p
	if p.count() == 0 && depth > 0 {
		return fmt.Errorf("%w: page %d is empty", ErrCorrupt, id)
	}
	if p.kind() == kindLeaf {
		return w.leaf(p)
	}
	for i := range p.count() {
		_, child, err := p.branch(i)
		if err != nil {
			return err
		}
		if err := w.page(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) leaf(p page) error {
	for i := range p.count() {
		e, err := p.leaf(i)
		if err != nil {
			return err
		}
		if len(e.key) == 0 || w.last != nil && bytes.Compare(e.key, w.last) <= 0 {
			return fmt.Errorf("%w: on page %d key %q does not ascend after %q", ErrCorrupt, p.id(), e.key, w.last)
		}
		w.last = append(w.last[:0], e.key...)
		if !w.yield(e, nil) {
			return errStopped
		}
	}
	return nil
}

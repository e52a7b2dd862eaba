package kv

// The answers of the data API are encoded as lists of byte slices, to be sent one after the other: small parts are
// written into one buffer, rows go by reference.

// refMin is the size from which a chunk of rows is passed on by reference; a smaller one is cheaper to copy than to
// send as a slice of its own.
const refMin = 4 << 10

// builder collects the parts of one answer.
type builder struct {
	parts [][]byte
	cur   []byte
}

// ref adds chunk without copying it, unless it is small.
func (b *builder) ref(chunk []byte) {
	if len(chunk) < refMin {
		b.cur = append(b.cur, chunk...)
		return
	}
	if len(b.cur) > 0 {
		b.parts = append(b.parts, b.cur)
		b.cur = nil
	}
	b.parts = append(b.parts, chunk)
}

func (b *builder) rows(r *Rows) {
	if r.lone != nil {
		b.cur = r.frame(b.cur, len(r.lone))
		b.ref(r.lone)
	}
	for _, chunk := range r.chunks {
		b.ref(chunk)
	}
}

func (b *builder) done() [][]byte {
	if len(b.cur) > 0 || len(b.parts) == 0 {
		b.parts = append(b.parts, b.cur)
	}
	return b.parts
}

func (h *Header) size() int {
	return sizeInt(int64(h.ClusterID)) + sizeInt(int64(h.MemberID)) + sizeInt(int64(h.Revision)) + sizeInt(int64(h.RaftTerm))
}

// AppendHeader adds h as field 1 of an answer.
func AppendHeader(dst []byte, h *Header) []byte {
	dst = appendLen(dst, 1, h.size())
	dst = appendInt(dst, 1, int64(h.ClusterID))
	dst = appendInt(dst, 2, int64(h.MemberID))
	dst = appendInt(dst, 3, int64(h.Revision))
	return appendInt(dst, 4, int64(h.RaftTerm))
}

// headerMax is more than any encoded header takes with its frame.
const headerMax = 48

// Encode gives the RangeResponse of r. The header's revision is r.Revision.
func (r *RangeResult) Encode(h Header) [][]byte {
	h.Revision = r.Revision
	room := headerMax
	if size := r.Rows.Size(); size < refMin {
		room += size
	}
	b := builder{cur: make([]byte, 0, room)}
	r.build(&b, &h)
	return b.done()
}

// EncodeAround gives what stands before the rows of r in its RangeResponse, and what behind them.
func (r *RangeResult) EncodeAround(h Header) (head, tail []byte) {
	h.Revision = r.Revision
	return AppendHeader(make([]byte, 0, headerMax), &h), r.appendTail(nil)
}

// EncodeChunk gives the RangeStreamResponse of r; with h, whose revision becomes r.Revision, the last of its stream.
func (r *RangeResult) EncodeChunk(h *Header) [][]byte {
	head, tail := r.EncodeChunkAround(h)
	b := builder{cur: head}
	b.rows(&r.Rows)
	b.cur = append(b.cur, tail...)
	return b.done()
}

// EncodeChunkAround is EncodeAround for EncodeChunk.
func (r *RangeResult) EncodeChunkAround(h *Header) (head, tail []byte) {
	size := r.Rows.Size() + sizeBool(r.More) + sizeInt(r.Count)
	if h != nil {
		h.Revision = r.Revision
		size = r.size(h)
	}
	head = appendLen(make([]byte, 0, 2*headerMax), 1, size)
	if h != nil {
		head = AppendHeader(head, h)
	}
	return head, r.appendTail(nil)
}

func (r *RangeResult) build(b *builder, h *Header) {
	if h != nil {
		b.cur = AppendHeader(b.cur, h)
	}
	b.rows(&r.Rows)
	b.cur = r.appendTail(b.cur)
}

func (r *RangeResult) appendTail(dst []byte) []byte {
	return appendInt(appendBool(dst, 3, r.More), 4, r.Count)
}

func (r *RangeResult) size(h *Header) int {
	return sizeMessage(h.size()) + r.Rows.Size() + sizeBool(r.More) + sizeInt(r.Count)
}

// Encode gives the PutResponse of r. The header's revision is r.Revision.
func (r *PutResult) Encode(h Header) [][]byte {
	h.Revision = r.Revision
	b := builder{cur: make([]byte, 0, headerMax+len(r.Prev))}
	r.build(&b, &h)
	return b.done()
}

func (r *PutResult) build(b *builder, h *Header) {
	b.cur = AppendHeader(b.cur, h)
	if r.Prev != nil {
		b.cur = appendLen(b.cur, 2, len(r.Prev))
		b.ref(r.Prev)
	}
}

func (r *PutResult) size(h *Header) int {
	n := sizeMessage(h.size())
	if r.Prev != nil {
		n += sizeMessage(len(r.Prev))
	}
	return n
}

// Encode gives the DeleteRangeResponse of r. The header's revision is r.Revision.
func (r *DeleteRangeResult) Encode(h Header) [][]byte {
	h.Revision = r.Revision
	b := builder{cur: make([]byte, 0, headerMax)}
	r.build(&b, &h)
	return b.done()
}

func (r *DeleteRangeResult) build(b *builder, h *Header) {
	b.cur = appendInt(AppendHeader(b.cur, h), 2, r.Deleted)
	b.rows(&r.Prev)
}

func (r *DeleteRangeResult) size(h *Header) int {
	return sizeMessage(h.size()) + sizeInt(r.Deleted) + r.Prev.Size()
}

// Encode gives the TxnResponse of r. The header's revision is r.Revision; nested headers hold nothing but theirs.
func (r *TxnResult) Encode(h Header) [][]byte {
	h.Revision = r.Revision
	b := builder{cur: make([]byte, 0, 2*headerMax)}
	r.build(&b, &h)
	return b.done()
}

func (r *TxnResult) build(b *builder, h *Header) {
	b.cur = appendBool(AppendHeader(b.cur, h), 2, r.Succeeded)
	for i := range r.Responses {
		r.Responses[i].build(b)
	}
}

func (r *TxnResult) size(h *Header) int {
	n := sizeMessage(h.size()) + sizeBool(r.Succeeded)
	for i := range r.Responses {
		h := r.Responses[i].header()
		n += sizeMessage(sizeMessage(r.Responses[i].size(&h)))
	}
	return n
}

// The methods of OpResult ask which member is set one by one, not through an interface: what that is given would be on the heap, and most
// answers of transactions are small.

// header is that of the member of o that is set: in a transaction it holds the revision alone.
func (o *OpResult) header() Header {
	switch {
	case o.Range != nil:
		return Header{Revision: o.Range.Revision}
	case o.Put != nil:
		return Header{Revision: o.Put.Revision}
	case o.DeleteRange != nil:
		return Header{Revision: o.DeleteRange.Revision}
	case o.Txn != nil:
		return Header{Revision: o.Txn.Revision}
	}
	panic("kv: an operation's result is empty")
}

// size is the encoded size of the member of o.
func (o *OpResult) size(h *Header) int {
	switch {
	case o.Range != nil:
		return o.Range.size(h)
	case o.Put != nil:
		return o.Put.size(h)
	case o.DeleteRange != nil:
		return o.DeleteRange.size(h)
	}
	return o.Txn.size(h)
}

// build writes o as one framed TxnResponse.responses field.
func (o *OpResult) build(b *builder) {
	h := o.header()
	size := o.size(&h)
	b.cur = appendLen(b.cur, 3, sizeMessage(size))
	switch {
	case o.Range != nil:
		b.cur = appendLen(b.cur, 1, size)
		o.Range.build(b, &h)
	case o.Put != nil:
		b.cur = appendLen(b.cur, 2, size)
		o.Put.build(b, &h)
	case o.DeleteRange != nil:
		b.cur = appendLen(b.cur, 3, size)
		o.DeleteRange.build(b, &h)
	case o.Txn != nil:
		b.cur = appendLen(b.cur, 4, size)
		o.Txn.build(b, &h)
	}
}

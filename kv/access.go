package kv

// Right is what an access does with the keys of its range. Rights combine by or.
type Right uint8

// The rights.
const (
	Read  Right = 1
	Write Right = 2
)

// Access is one thing that a request does: it reads or writes the keys of a range. Whatever a request does is a list of
// accesses, and whoever may do each of them may do the request: no rule about permissions knows kinds of requests.
type Access struct {
	KeyRange
	Right Right
}

// KeysOf gives the keys that hang on a lease, none if there is no such lease. A put onto a lease, and the end of one, are
// writes of all of them: whoever could hang a key on a lease could end it with that key's neighbours.
type KeysOf func(LeaseID) [][]byte

// Accesses appends what a command does with keys. Commands about other things, a compaction among them, do nothing.
func (c *Command) Accesses(dst []Access, keysOf KeysOf) []Access {
	switch {
	case c.Put != nil:
		return c.Put.Accesses(dst, keysOf)
	case c.DeleteRange != nil:
		return c.DeleteRange.Accesses(dst)
	case c.Txn != nil:
		return c.Txn.Accesses(dst, keysOf)
	case c.LeaseRevoke != nil:
		return AppendLeaseAccesses(dst, Write, c.LeaseRevoke.ID, keysOf)
	}
	return dst
}

// Accesses appends what the request does.
func (q *RangeRequest) Accesses(dst []Access) []Access {
	return append(dst, Access{q.KeyRange, Read})
}

// Accesses appends what the request does. No key is the first one there is, as in etcd.
func (q *WatchCreate) Accesses(dst []Access) []Access {
	r := q.KeyRange
	if len(r.Key) == 0 {
		r.Key = firstKey
	}
	return append(dst, Access{r, Read})
}

var firstKey = []byte{0}

// Accesses appends what the request does: with the previous version it also reads.
func (q *PutRequest) Accesses(dst []Access, keysOf KeysOf) []Access {
	a := Access{KeyRange{Key: q.Key}, Write}
	if q.PrevKV {
		a.Right |= Read
	}
	return AppendLeaseAccesses(append(dst, a), Write, q.Lease, keysOf)
}

// Accesses appends what the request does: with the previous versions it also reads.
func (q *DeleteRangeRequest) Accesses(dst []Access) []Access {
	a := Access{q.KeyRange, Write}
	if q.PrevKV {
		a.Right |= Read
	}
	return append(dst, a)
}

// Accesses appends what the transaction may do, whichever branches it takes: a refusal must not tell how a compare ended.
func (q *TxnRequest) Accesses(dst []Access, keysOf KeysOf) []Access {
	for i := range q.Compare {
		dst = append(dst, Access{q.Compare[i].KeyRange, Read})
	}
	for _, ops := range [][]Op{q.Success, q.Failure} {
		for i := range ops {
			dst = ops[i].accesses(dst, keysOf)
		}
	}
	return dst
}

func (op *Op) accesses(dst []Access, keysOf KeysOf) []Access {
	switch {
	case op.Range != nil:
		return op.Range.Accesses(dst)
	case op.Put != nil:
		return op.Put.Accesses(dst, keysOf)
	case op.DeleteRange != nil:
		return op.DeleteRange.Accesses(dst)
	case op.Txn != nil:
		return op.Txn.Accesses(dst, keysOf)
	}
	return dst
}

// AppendLeaseAccesses appends an access to each key of a lease.
func AppendLeaseAccesses(dst []Access, right Right, id LeaseID, keysOf KeysOf) []Access {
	if id == 0 {
		return dst
	}
	for _, key := range keysOf(id) {
		dst = append(dst, Access{KeyRange{Key: key}, right})
	}
	return dst
}

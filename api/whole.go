package api

import (
	"context"
	"math"

	"holdfast/kv"
)

// What transactions read, and what deletions return, is in memory as a whole: the state machine makes it, on the member that was
// asked. Nobody knows its size before, so it is guessed. What is guessed to be large is made alone, as sorted ranges are.

// wholeFree is how large a transaction's answer may be without being counted: as large as its request may be.
const wholeFree = 1 << 20

// whole makes an answer that may have so many bytes.
func (a *API) whole(ctx context.Context, bytes int64, make func() (outbound, error)) (any, error) {
	if bytes <= wholeFree {
		parts, err := make()
		if err != nil {
			return nil, err
		}
		return encoded(parts), nil
	}
	w := &answer{of: a.answers}
	if err := w.acquireWhole(ctx); err != nil {
		return nil, err
	}
	parts, err := make()
	if err != nil {
		w.end()
		return nil, err
	}
	return w.sendWhole(parts), nil
}

func (a *API) sizeOfDelete(q *kv.DeleteRangeRequest) int64 {
	if !q.PrevKV {
		return 0
	}
	return a.member.RangeBytes(q.KeyRange)
}

func (a *API) sizeOfRange(q *kv.RangeRequest) int64 {
	if q.CountOnly || q.KeysOnly || q.Limit > 0 && q.Limit <= chunkKeys {
		return 0
	}
	return a.member.RangeBytes(q.KeyRange)
}

// sizeOfTxn is that of the larger branch.
func (a *API) sizeOfTxn(q *kv.TxnRequest) int64 {
	return max(a.sizeOfOps(q.Success), a.sizeOfOps(q.Failure))
}

func (a *API) sizeOfOps(ops []kv.Op) (bytes int64) {
	for i := range ops {
		size := int64(0)
		switch op := &ops[i]; {
		case op.Range != nil:
			size = a.sizeOfRange(op.Range)
		case op.DeleteRange != nil:
			size = a.sizeOfDelete(op.DeleteRange)
		case op.Txn != nil:
			size = a.sizeOfTxn(op.Txn)
		}
		if bytes += size; bytes < 0 {
			return math.MaxInt64
		}
	}
	return bytes
}

package apply

import (
	"context"
	"errors"

	"holdfast/kv"
	"holdfast/mvcc"
)

// ReadTxn runs a transaction that only reads, without the log, on the keys as they are at one revision.
func ReadTxn(ctx context.Context, keys *mvcc.Store, q *kv.TxnRequest) (*kv.TxnResult, error) {
	for {
		answer, err := readTxn(ctx, keys, q, keys.Revision())
		if !errors.Is(err, errOvertaken) {
			return answer, err
		}
	}
}

// errOvertaken says that a compaction took away the revision a transaction was reading at; a newer one is to be had.
var errOvertaken = errors.New("compacted while reading")

func readTxn(ctx context.Context, keys *mvcc.Store, q *kv.TxnRequest, rev kv.Revision) (*kv.TxnResult, error) {
	v := &pinned{ctx: ctx, keys: keys, rev: rev}
	b := decide(v, q)
	if v.err != nil {
		return nil, v.err
	}
	check := checks{revision: v.checkRevision}
	if err := check.all(&b); err != nil {
		return nil, err
	}
	answer := &kv.TxnResult{Succeeded: b.succeeded, Revision: rev}
	for i := range b.ops {
		result, err := v.read(b.ops[i].Range)
		if err != nil {
			return nil, err
		}
		answer.Responses = append(answer.Responses, kv.OpResult{Range: result})
	}
	return answer, nil
}

// pinned is a view of the keys at rev. Its first error is kept for whoever asks after a Visit.
type pinned struct {
	ctx  context.Context // of the one request that the view serves
	keys *mvcc.Store
	rev  kv.Revision
	err  error
}

// Revision is the one that the view shows.
func (v *pinned) Revision() kv.Revision { return v.rev }

// Visit calls each with the keys of r at the view's revision, in order.
func (v *pinned) Visit(r kv.KeyRange, each func(encoded []byte) bool) {
	answer, err := v.read(&kv.RangeRequest{KeyRange: r})
	if err != nil {
		v.err = errors.Join(v.err, err)
		return
	}
	for row := range answer.Rows.All() {
		if !each(row) {
			return
		}
	}
}

// Stands is the version of key that the view shows.
func (v *pinned) Stands(key []byte) (present kv.KeyValue) {
	v.Visit(kv.KeyRange{Key: key}, func(encoded []byte) bool {
		present = decode(encoded)
		return true
	})
	return present
}

// read answers q as the store stood at the view's revision.
func (v *pinned) read(q *kv.RangeRequest) (*kv.RangeResult, error) {
	at := *q
	if at.Revision <= 0 {
		at.Revision = v.rev
	}
	answer, err := v.keys.Range(v.ctx, &at)
	if errors.Is(err, mvcc.ErrCompacted) && q.Revision <= 0 {
		return nil, errOvertaken
	}
	if err != nil {
		return nil, err
	}
	answer.Revision = v.rev
	return answer, nil
}

// checkRevision asks that a revision can be read. Unlike outside a transaction, a negative one is a revision like others.
func (v *pinned) checkRevision(rev kv.Revision) error {
	switch {
	case rev == 0:
		return nil
	case rev > v.rev:
		return mvcc.ErrFutureRevision
	case rev < v.keys.Compacted():
		return mvcc.ErrCompacted
	}
	return nil
}

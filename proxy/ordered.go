package proxy

import (
	"context"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/ordering"
)

// orderedKV answers nothing that is older than what it has answered before: a read that a member gives which lags behind goes to the next
// one. (etcd's client has a layer for this, which takes no notice of Do, and so of a proxy.)
//
//	Errors  ordering.ErrNoGreaterRev when no member is up to date
type orderedKV struct {
	clientv3.KV
	members func() []string
	seen    atomic.Int64 // the highest revision answered; grows only
}

// triesPerMember is how often, for each member, an answer may be too old: calls take turns among the members, but others' calls come
// between.
const triesPerMember = 5

// Do implements clientv3.KV. A write is never too old: it is applied after everything that was answered before it began.
func (o *orderedKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	for tries := triesPerMember * len(o.members()); ; tries-- {
		before := o.seen.Load()
		r, err := o.KV.Do(ctx, op)
		if err != nil {
			return r, err
		}
		if revision := revisionOf(r); revision >= before {
			o.note(revision)
			return r, nil
		}
		if tries <= 1 {
			return clientv3.OpResponse{}, ordering.ErrNoGreaterRev
		}
	}
}

// note keeps the highest revision.
func (o *orderedKV) note(revision int64) {
	for seen := o.seen.Load(); revision > seen && !o.seen.CompareAndSwap(seen, revision); seen = o.seen.Load() {
	}
}

// revisionOf is the revision of the store in an answer.
func revisionOf(r clientv3.OpResponse) int64 {
	switch {
	case r.Get() != nil:
		return r.Get().Header.GetRevision()
	case r.Put() != nil:
		return r.Put().Header.GetRevision()
	case r.Del() != nil:
		return r.Del().Header.GetRevision()
	}
	return r.Txn().Header.GetRevision()
}

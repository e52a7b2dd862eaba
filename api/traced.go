package api

import (
	"context"

	"holdfast/kv"
	"holdfast/lease"
	"holdfast/mvcc"
	"holdfast/tracing"
)

// traced is a member whose operations are spans, with etcd's names and attributes. It stands in front of the member only where
// traces are sent.
type traced struct {
	Member
	to *tracing.Tracing
}

// RangeWithin implements Member.
func (m traced) RangeWithin(ctx context.Context, q *kv.RangeRequest, room mvcc.Room) (r *kv.RangeResult, rest *mvcc.Rest, err error) {
	ctx, span := m.to.Begin(ctx, "range", tracing.Text("range_begin", q.Key), tracing.Text("range_end", q.End),
		tracing.Int("rev", q.Revision), tracing.Int("limit", q.Limit), tracing.Bool("count_only", q.CountOnly), tracing.Bool("keys_only", q.KeysOnly))
	defer func() { span.End(err) }()
	return m.Member.RangeWithin(ctx, q, room)
}

// Put implements Member.
func (m traced) Put(ctx context.Context, q *kv.PutRequest, draft kv.Draft) (r *kv.PutResult, err error) {
	ctx, span := m.to.Begin(ctx, "put", tracing.Text("key", q.Key))
	defer func() { span.End(err) }()
	return m.Member.Put(ctx, q, draft)
}

// DeleteRange implements Member.
func (m traced) DeleteRange(ctx context.Context, q *kv.DeleteRangeRequest, draft kv.Draft) (r *kv.DeleteRangeResult, err error) {
	ctx, span := m.to.Begin(ctx, "delete_range", tracing.Text("range_begin", q.Key), tracing.Text("range_end", q.End))
	defer func() { span.End(err) }()
	return m.Member.DeleteRange(ctx, q, draft)
}

// Txn implements Member.
func (m traced) Txn(ctx context.Context, q *kv.TxnRequest, draft kv.Draft) (r *kv.TxnResult, err error) {
	says := []tracing.Attribute{
		tracing.Int("compare_len", len(q.Compare)), tracing.Int("success_len", len(q.Success)),
		tracing.Int("failure_len", len(q.Failure)), tracing.Bool("read_only", !q.IsWrite()),
	}
	if len(q.Compare) > 0 {
		says = append(says, tracing.Text("compare_first_key", q.Compare[0].Key))
	}
	if len(q.Success) > 0 {
		says = append(says, describeOp(&q.Success[0])...)
	}
	ctx, span := m.to.Begin(ctx, "txn", says...)
	defer func() { span.End(err) }()
	return m.Member.Txn(ctx, q, draft)
}

// describeOp says what the first operation of a transaction is.
func describeOp(op *kv.Op) []tracing.Attribute {
	var key []byte
	kind, held := "", kv.LeaseID(0)
	switch {
	case op.Range != nil:
		key, kind = op.Range.Key, "range"
	case op.Put != nil:
		key, kind, held = op.Put.Key, "put", op.Put.Lease
	case op.DeleteRange != nil:
		key, kind = op.DeleteRange.Key, "delete_range"
	case op.Txn != nil:
		kind = "txn"
	}
	return []tracing.Attribute{
		tracing.Text("success_first_key", key), tracing.Text("success_first_type", []byte(kind)), tracing.Int("success_first_lease", held),
	}
}

// Compact implements Member.
func (m traced) Compact(ctx context.Context, q kv.CompactRequest) (rev kv.Revision, err error) {
	ctx, span := m.to.Begin(ctx, "compact", tracing.Bool("is_physical", q.Physical), tracing.Int("rev", q.Revision))
	defer func() { span.End(err) }()
	return m.Member.Compact(ctx, q)
}

// LeaseGrant implements Member.
func (m traced) LeaseGrant(ctx context.Context, q kv.LeaseGrantRequest) (l lease.Lease, err error) {
	ctx, span := m.to.Begin(ctx, "lease_grant", tracing.Int("id", q.ID), tracing.Int("ttl", q.TTL))
	defer func() { span.End(err) }()
	return m.Member.LeaseGrant(ctx, q)
}

// LeaseRevoke implements Member.
func (m traced) LeaseRevoke(ctx context.Context, id kv.LeaseID) (err error) {
	ctx, span := m.to.Begin(ctx, "lease_revoke", tracing.Int("id", id))
	defer func() { span.End(err) }()
	return m.Member.LeaseRevoke(ctx, id)
}

// LeaseRenew implements Member.
func (m traced) LeaseRenew(ctx context.Context, id kv.LeaseID) (ttl int64, err error) {
	ctx, span := m.to.Begin(ctx, "lease_renew", tracing.Int("id", id))
	defer func() { span.End(err) }()
	return m.Member.LeaseRenew(ctx, id)
}

// traceWatch notes that a client asks for a watch. The span does not last as long as the watch: it would be sent days later, or never.
func (a *API) traceWatch(ctx context.Context, q *kv.WatchCreate) {
	if a.cfg.Tracing == nil {
		return
	}
	_, span := a.cfg.Tracing.Begin(ctx, "watch", tracing.Text("key", q.Key), tracing.Text("range_end", q.End),
		tracing.Int("start_rev", q.Start), tracing.Bool("progress_notify", q.ProgressNotify),
		tracing.Bool("prev_kv", q.PrevKV), tracing.Bool("fragment", q.Fragment))
	span.End(nil)
}

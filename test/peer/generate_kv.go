package peer

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// leaseIDs are the ids operations grant leases under, so that keys on both servers hang on the same number and their
// hashes agree.
var leaseIDs = []int64{101, 102, 103, 104, 7587870000000000001, -5}

// longTTL keeps a lease beyond the end of any episode, in seconds.
const longTTL = 3600

func (g *gen) leaseID() int64 { return leaseIDs[g.rng.IntN(len(leaseIDs))] }

func (g *gen) chance(in int) bool { return g.rng.IntN(in) == 0 }

func (g *gen) randomRange() *pb.RangeRequest {
	r := &pb.RangeRequest{Key: g.key(), Revision: g.revision(), Serializable: g.chance(4)}
	if g.chance(60) {
		r.Key = nil
	}
	r.RangeEnd = g.end(r.Key)
	if g.chance(3) {
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	}
	if g.chance(3) {
		r.Limit = g.rng.Int64N(8)
	}
	if g.chance(3) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	if g.chance(100) {
		r.SortOrder = 3
	}
	if g.chance(100) {
		r.SortTarget = 5
	}
	if g.chance(6) {
		for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
			if g.chance(3) {
				*bound = atMiddle(g.rng.Int64N(1001))
			}
		}
	}
	r.KeysOnly = g.chance(8)
	r.CountOnly = g.chance(12)
	return r
}

// randomStreamRange draws a range a stream may serve, and now and then one it refuses. A sort target without an order is
// left out: etcd does not refuse it but sorts each chunk and goes on behind its last key, so that keys come twice or never.
func (g *gen) randomStreamRange() *pb.RangeRequest {
	r := g.randomRange()
	refused := g.chance(10)
	if !refused {
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	if !refused || r.SortOrder == pb.RangeRequest_NONE {
		r.SortOrder, r.SortTarget = pb.RangeRequest_NONE, pb.RangeRequest_KEY
	}
	return r
}

func (g *gen) randomPut(key []byte) *pb.PutRequest {
	r := &pb.PutRequest{Key: key, Value: g.value(), PrevKv: g.chance(3)}
	if g.chance(5) {
		r.Lease = g.leaseID()
	}
	switch g.rng.IntN(24) {
	case 0:
		r.IgnoreValue, r.Value = true, nil
	case 1:
		r.IgnoreLease, r.Lease = true, 0
	case 2:
		r.IgnoreValue = true
	case 3:
		r.IgnoreLease = true
	case 4:
		r.IgnoreValue, r.IgnoreLease, r.Value, r.Lease = true, true, nil, 0
	case 5:
		if g.chance(4) {
			r.Key = nil
		}
	}
	return r
}

func (g *gen) randomDelete() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.chance(3)}
	if !g.chance(3) {
		r.RangeEnd = g.end(r.Key)
	}
	return r
}

// randomTxn draws a txn of at most depth levels. used holds the keys the branch so far writes; most writes keep clear of
// them, as two writes to one key are refused.
func (g *gen) randomTxn(depth int, used map[string]bool) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range g.rng.IntN(4) {
		r.Compare = append(r.Compare, g.randomCompare())
	}
	readOnly := g.chance(6)
	for _, branch := range []*[]*pb.RequestOp{&r.Success, &r.Failure} {
		mine := map[string]bool{}
		for k := range used {
			mine[k] = true
		}
		for range g.rng.IntN(5) {
			*branch = append(*branch, g.randomOp(depth, mine, readOnly))
		}
	}
	spareEtcd(r)
	return r
}

// spareEtcd shortens deletes from a key on beside a put of one of these keys. Its check for keys written twice takes such a
// range for an empty one and lets the txn through, which then changes a key twice at one revision. etcd's later steps are not made
// for that: when the put wants the old value kept, it ends with a panic; when the revision is compacted, it throws the new
// value away and ends at the next read, or a watch from there may or may not see the first change. It returns whether there was one.
func spareEtcd(r *pb.TxnRequest) (shortened bool) {
	var endless []*pb.DeleteRangeRequest
	var puts []*pb.PutRequest
	eachOp(r, func(o *pb.RequestOp) {
		if d := o.GetRequestDeleteRange(); bytes.Equal(d.GetRangeEnd(), []byte{0}) {
			endless = append(endless, d)
		}
		if p := o.GetRequestPut(); p != nil {
			puts = append(puts, p)
		}
	})
	for _, d := range endless {
		for _, p := range puts {
			if bytes.Compare(p.Key, d.Key) >= 0 {
				d.RangeEnd, shortened = nil, true
			}
		}
	}
	return shortened
}

// eachOp calls f with every operation of a txn and of those inside it.
func eachOp(r *pb.TxnRequest, f func(*pb.RequestOp)) {
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, o := range branch {
			f(o)
			if inner := o.GetRequestTxn(); inner != nil {
				eachOp(inner, f)
			}
		}
	}
}

func (g *gen) randomOp(depth int, used map[string]bool, readOnly bool) *pb.RequestOp {
	p := g.rng.IntN(100)
	switch {
	case readOnly && p < 97 || p < 35:
		return opRange(g.randomRange())
	case p < 70:
		return opPut(g.randomPut(g.freeKey(used)))
	case p < 82:
		return opDelete(g.narrowDelete(used))
	case p < 99 && depth > 1:
		return opTxn(g.randomTxn(depth-1, used))
	case p < 99:
		return opRange(g.randomRange())
	}
	return &pb.RequestOp{}
}

// freeKey draws a key the branch does not write yet, and one time in twelve any.
func (g *gen) freeKey(used map[string]bool) []byte {
	for range 20 {
		k := g.key()
		if !used[string(k)] || g.chance(12) {
			used[string(k)] = true
			return k
		}
	}
	return g.key()
}

// narrowDelete draws a delete of one free key, and one time in five of any range.
func (g *gen) narrowDelete(used map[string]bool) *pb.DeleteRangeRequest {
	if g.chance(5) {
		return g.randomDelete()
	}
	return &pb.DeleteRangeRequest{Key: g.freeKey(used), PrevKv: g.chance(3)}
}

func (g *gen) randomCompare() *pb.Compare {
	c := &pb.Compare{
		Key:    g.key(),
		Result: pb.Compare_CompareResult(g.rng.IntN(4)),
		Target: pb.Compare_CompareTarget(g.rng.IntN(5)),
	}
	if g.chance(5) {
		c.RangeEnd = g.end(c.Key)
	}
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: g.rng.Int64N(4)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.compared()}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.compared()}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: []int64{0, g.leaseID()}[g.rng.IntN(2)]}
	}
	switch g.rng.IntN(60) {
	case 0:
		c.Result = 4
	case 1:
		c.Target = 5
	case 2:
		c.TargetUnion = nil
	case 3:
		c.TargetUnion = &pb.Compare_Version{Version: 1}
	}
	return c
}

func (g *gen) compared() int64 {
	if g.chance(3) {
		return 0
	}
	return atMiddle(g.rng.Int64N(1001))
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opPut(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func opDelete(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func (g *gen) randomLease() op {
	switch g.rng.IntN(8) {
	case 0, 1:
		return g.call(leaseGrant, &pb.LeaseGrantRequest{ID: g.leaseID(), TTL: longTTL + g.rng.Int64N(100)})
	case 2:
		return g.call(leaseRevoke, &pb.LeaseRevokeRequest{ID: g.leaseID()})
	case 3:
		return g.call(leaseKeepAlive, &pb.LeaseKeepAliveRequest{ID: g.leaseID()}, &pb.LeaseKeepAliveRequest{ID: g.leaseID()})
	case 4:
		return g.call(leaseLeases, &pb.LeaseLeasesRequest{})
	default:
		return g.call(leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: g.leaseID(), Keys: g.chance(2)})
	}
}

func (g *gen) createWatch(r *pb.WatchCreateRequest) *createWatch {
	return &createWatch{slot: g.rng.IntN(streamSlots), request: r}
}

func (g *gen) randomWatch() *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{
		Key:            g.key(),
		PrevKv:         g.chance(2),
		Fragment:       g.chance(3),
		ProgressNotify: g.chance(4),
	}
	r.RangeEnd = g.end(r.Key)
	if g.chance(5) {
		r.Key, r.RangeEnd = nil, []byte{0}
	}
	if g.chance(3) {
		r.StartRevision = g.revision()
	}
	if g.chance(4) {
		r.WatchId = g.rng.Int64N(12)
	}
	for _, f := range []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE} {
		if g.chance(8) {
			r.Filters = append(r.Filters, f)
		}
	}
	return r
}

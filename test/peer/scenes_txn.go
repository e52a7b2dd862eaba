package peer

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func putOf(i int) *pb.RequestOp {
	return opPut(&pb.PutRequest{Key: sceneKey(i), Value: []byte("txn")})
}
func getOf(i int) *pb.RequestOp { return opRange(&pb.RangeRequest{Key: sceneKey(i)}) }
func deleteOf(i, j int) *pb.RequestOp {
	return opDelete(&pb.DeleteRangeRequest{Key: sceneKey(i), RangeEnd: sceneKey(j)})
}

// then is a txn that always takes its first branch.
func then(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }

// when is a txn of one compare that reads in both branches.
func when(c *pb.Compare) *pb.TxnRequest {
	return &pb.TxnRequest{Compare: []*pb.Compare{c}, Success: []*pb.RequestOp{getOf(0)}, Failure: []*pb.RequestOp{getOf(1)}}
}

func (g *gen) txn(rule string, met func(*world, answer) bool, r *pb.TxnRequest) op {
	return g.meet(rule, met, txn, r)
}

func succeeded(want bool) func(*world, answer) bool {
	return saw(func(r *pb.TxnResponse) bool { return r.Succeeded == want })
}

// unchanged is the condition that a txn was answered and the revision did not move.
func unchanged(w *world, a answer) bool {
	r, ok := a.only().(*pb.TxnResponse)
	return ok && a.text == "" && w.previous == r.Header.Revision
}

// refused makes a scene of one txn that etcd refuses with a text.
func refused(rule, text string, r func(g *gen) *pb.TxnRequest) scene {
	return func(g *gen) []op {
		return []op{g.txn(rule, failed(text), r(g)), g.call(kvRange, sceneRange())}
	}
}

const (
	duplicate = "duplicate key given in txn request"
	tooMany   = "too many operations in txn request"
)

var txnScenes = []scene{
	refused("1.7 too many operations", tooMany, func(g *gen) *pb.TxnRequest {
		ops := slices.Repeat([]*pb.RequestOp{getOf(0)}, g.settings.maxTxnOps+1)
		if g.chance(2) {
			return &pb.TxnRequest{Failure: ops}
		}
		return then(ops...)
	}),
	refused("1.7 too many compares", tooMany, func(g *gen) *pb.TxnRequest {
		return &pb.TxnRequest{Compare: slices.Repeat([]*pb.Compare{{Key: sceneKey(0)}}, g.settings.maxTxnOps+1)}
	}),
	func(g *gen) []op { // the parent uses all but two of its operations: two nested ones pass, three do not
		parent := func(nested int) *pb.TxnRequest {
			ops := slices.Repeat([]*pb.RequestOp{getOf(0)}, g.settings.maxTxnOps-3)
			return then(append(ops, opTxn(then(slices.Repeat([]*pb.RequestOp{getOf(1)}, nested)...)))...)
		}
		return []op{g.call(txn, parent(2)), g.txn("1.7 a nested txn has what its parent left", failed(tooMany), parent(3))}
	},
	refused("1.7 put twice in a branch", duplicate, func(g *gen) *pb.TxnRequest {
		ops := []*pb.RequestOp{putOf(0), getOf(1), putOf(0)}
		if g.chance(2) {
			return &pb.TxnRequest{Failure: ops}
		}
		return then(ops...)
	}),
	refused("1.7 put inside a deleted range", duplicate, func(g *gen) *pb.TxnRequest {
		ops := []*pb.RequestOp{deleteOf(0, 4), putOf(2)}
		if g.chance(2) {
			slices.Reverse(ops)
		}
		return then(ops...)
	}),
	refused("1.7 nested put against a sibling", duplicate, func(g *gen) *pb.TxnRequest {
		if g.chance(2) {
			return then(opTxn(then(putOf(0))), opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{putOf(0)}}))
		}
		return then(putOf(0), opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{opTxn(then(putOf(0)))}}))
	}),
	refused("1.7 nested put inside a deleted range of the parent", duplicate, func(g *gen) *pb.TxnRequest {
		if g.chance(2) {
			return then(putOf(1), opTxn(then(deleteOf(0, 3))))
		}
		return then(deleteOf(0, 3), opTxn(then(putOf(1))))
	}),
	refused("1.7 an operation without content", "key not found", func(g *gen) *pb.TxnRequest {
		return then(putOf(0), &pb.RequestOp{})
	}),
	refused("1.7 nested operation without content", "key not found", func(g *gen) *pb.TxnRequest {
		return then(opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{{}}}))
	}),
	refused("1.7 empty key in an operation", "key is not provided", func(g *gen) *pb.TxnRequest {
		op := []*pb.RequestOp{opPut(&pb.PutRequest{}), opRange(&pb.RangeRequest{}), opDelete(&pb.DeleteRangeRequest{})}[g.rng.IntN(3)]
		return &pb.TxnRequest{Failure: []*pb.RequestOp{opTxn(then(op))}}
	}),
	refused("1.7 empty key in a compare", "key is not provided", func(g *gen) *pb.TxnRequest {
		return then(opTxn(&pb.TxnRequest{Compare: []*pb.Compare{{}}}))
	}),
	refused("1.7 bad sort option in an operation", "invalid sort option", func(g *gen) *pb.TxnRequest {
		return then(opRange(&pb.RangeRequest{Key: sceneKey(0), SortTarget: 9}))
	}),
	func(g *gen) []op {
		return append(g.fill("1", "2", "3"),
			g.txn("1.7 deletes may overlap", done, then(deleteOf(0, 2), deleteOf(1, 3), getOf(1))),
			g.txn("1.7 success and failure may share a key", done,
				&pb.TxnRequest{Success: []*pb.RequestOp{putOf(0)}, Failure: []*pb.RequestOp{putOf(0)}}),
			g.txn("1.7 branches of a nested txn may share a key", done,
				then(opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{putOf(0)}, Failure: []*pb.RequestOp{putOf(0)}}))),
			g.txn("1.7 three levels deep", done, then(putOf(1), opTxn(then(putOf(2), opTxn(then(putOf(3), getOf(2))))))),
			g.call(txn, then(opDelete(&pb.DeleteRangeRequest{Key: sceneKey(3), RangeEnd: sceneKey(1)}), putOf(2))),
			g.call(txn, then(putOf(0), opDelete(&pb.DeleteRangeRequest{Key: sceneKey(1), RangeEnd: []byte{0}}))),
			g.call(kvRange, sceneRange()))
	},
	func(g *gen) []op {
		absent := func(target pb.Compare_CompareTarget) *pb.Compare {
			return &pb.Compare{Key: sceneKey(0), Target: target}
		}
		value := absent(pb.Compare_VALUE)
		value.TargetUnion = &pb.Compare_Value{}
		return append(g.fill(),
			g.txn("1.7 value on an absent key is false", succeeded(false), when(value)),
			g.txn("", nil, when(&pb.Compare{Key: sceneKey(0), Target: pb.Compare_VALUE, Result: pb.Compare_NOT_EQUAL,
				TargetUnion: &pb.Compare_Value{Value: []byte("x")}})),
			g.txn("1.7 version on an absent key is 0", succeeded(true), when(absent(pb.Compare_VERSION))),
			g.txn("1.7 create revision on an absent key is 0", succeeded(true), when(absent(pb.Compare_CREATE))),
			g.txn("1.7 mod revision on an absent key is 0", succeeded(true), when(absent(pb.Compare_MOD))),
			g.txn("1.7 lease on an absent key is 0", succeeded(true), when(absent(pb.Compare_LEASE))),
			g.txn("", nil, when(&pb.Compare{Key: sceneKey(0), Result: pb.Compare_GREATER, Target: pb.Compare_MOD,
				TargetUnion: &pb.Compare_ModRevision{ModRevision: -1}})))
	},
	func(g *gen) []op {
		all := func(version int64) *pb.Compare {
			return &pb.Compare{Key: []byte("s/"), RangeEnd: []byte("s0"), Target: pb.Compare_VERSION,
				TargetUnion: &pb.Compare_Version{Version: version}}
		}
		return append(g.fill("1", "2"),
			g.txn("1.7 compare of a range needs every key", succeeded(true), when(all(1))),
			g.call(put, &pb.PutRequest{Key: sceneKey(1)}),
			g.txn("1.7 compare of a range needs every key", succeeded(false), when(all(1))),
			g.txn("1.7 compare of an empty range is that of an absent key", succeeded(true),
				when(&pb.Compare{Key: []byte("s0"), RangeEnd: []byte("s/"), Target: pb.Compare_VERSION})),
			g.txn("1.7 compare of an empty range is that of an absent key", succeeded(false),
				when(&pb.Compare{Key: []byte("s/x"), RangeEnd: []byte("s/z"), Target: pb.Compare_VERSION,
					TargetUnion: &pb.Compare_Version{Version: 9}})),
			g.txn("", nil, when(&pb.Compare{Key: []byte("s/x"), RangeEnd: []byte("s/z"), Target: pb.Compare_VALUE,
				TargetUnion: &pb.Compare_Value{Value: []byte("1")}})),
			g.txn("1.7 an unknown compare result is true", succeeded(true),
				when(&pb.Compare{Key: sceneKey(0), Result: 4, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 77}})),
			g.txn("1.7 an unknown compare target", done,
				when(&pb.Compare{Key: sceneKey(0), Target: 5, TargetUnion: &pb.Compare_Version{Version: 77}})),
			g.txn("1.7 compare without a value to compare with", done,
				when(&pb.Compare{Key: sceneKey(0), Target: pb.Compare_CompareTarget(g.rng.IntN(5))})),
			g.txn("", nil, when(&pb.Compare{Key: sceneKey(0), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Version{Version: 1}})))
	},
	func(g *gen) []op {
		isNew := &pb.Compare{Key: sceneKey(0), Target: pb.Compare_VERSION}
		nested := &pb.TxnRequest{Compare: []*pb.Compare{isNew}, Success: []*pb.RequestOp{getOf(0)}, Failure: []*pb.RequestOp{getOf(1)}}
		return append(g.fill(),
			g.txn("1.7 nested compares see the state before the txn",
				saw(func(r *pb.TxnResponse) bool { return r.Responses[1].GetResponseTxn().GetSucceeded() }),
				then(putOf(0), opTxn(nested))),
			g.txn("1.7 ranges see earlier writes",
				saw(func(r *pb.TxnResponse) bool { return r.Responses[1].GetResponseRange().GetCount() == 1 }),
				then(putOf(1), getOf(1), deleteOf(0, 1), getOf(0))),
			g.txn("1.3 a nested header holds only the revision", saw(func(r *pb.TxnResponse) bool {
				h := r.Responses[0].GetResponsePut().GetHeader()
				return h.GetRevision() > 0 && h.GetClusterId() == 0 && h.GetMemberId() == 0 && h.GetRaftTerm() == 0
			}), then(putOf(2))),
			g.txn("1.7 several changes, one revision", func(w *world, a answer) bool {
				r, ok := a.only().(*pb.TxnResponse)
				return ok && r.Header.Revision == w.previous+1
			}, then(putOf(3), putOf(4), deleteOf(1, 3))),
			g.txn("1.7 nothing written, no revision", unchanged, then(deleteOf(8, 9), getOf(0))),
			g.call(kvRange, sceneRange()))
	},
	func(g *gen) []op { // what stops a txn stops all of it: the put in front leaves no trace
		stops := func(rule, text string, bad *pb.RequestOp) op {
			return g.txn(rule, failed(text), then(putOf(0), bad))
		}
		bad := opPut(&pb.PutRequest{Key: sceneKey(1), Lease: 999})
		return append(g.fill("1", "2"), g.compact(atCurrent(-1), true),
			stops("1.7 an unknown lease stops everything", "requested lease not found", bad),
			stops("1.7 a compacted range stops everything", "mvcc: required revision has been compacted",
				opRange(&pb.RangeRequest{Key: sceneKey(0), Revision: atCompacted(-1)})),
			stops("1.7 a future range stops everything", "mvcc: required revision is a future revision",
				opRange(&pb.RangeRequest{Key: sceneKey(0), Revision: atCurrent(1)})),
			stops("1.7 ignore_value on an absent key stops everything", "key not found",
				opPut(&pb.PutRequest{Key: sceneKey(7), IgnoreValue: true})),
			stops("1.7 a negative revision below the compacted one", "mvcc: required revision has been compacted",
				opRange(&pb.RangeRequest{Key: sceneKey(0), Revision: -1})),
			g.txn("1.7 the branch not taken is not checked", done,
				&pb.TxnRequest{Success: []*pb.RequestOp{getOf(0)}, Failure: []*pb.RequestOp{bad}}),
			g.txn("", nil, then(putOf(6), opTxn(then(opPut(&pb.PutRequest{Key: sceneKey(6), IgnoreValue: true}))))),
			g.txn("", nil, then(putOf(6), opRange(&pb.RangeRequest{Key: sceneKey(6), Revision: atCurrent(0)}))),
			g.call(kvRange, sceneRange()))
	},
	func(g *gen) []op {
		serial := opRange(&pb.RangeRequest{Key: []byte("s/"), RangeEnd: []byte("s0"), Serializable: true})
		return append(g.fill("1"),
			g.txn("1.7 read-only", unchanged, then(getOf(0), getOf(1))),
			g.txn("1.7 read-only serializable", unchanged, then(serial, serial)),
			g.txn("1.7 empty", unchanged, &pb.TxnRequest{}),
			g.txn("", nil, then(opRange(&pb.RangeRequest{Key: sceneKey(0), Revision: atCurrent(1)}))),
			g.txn("", nil, then(opRange(&pb.RangeRequest{Key: sceneKey(0), Revision: -2}))),
			g.txn("", nil, then(opTxn(&pb.TxnRequest{}))))
	},
}

var compactScenes = []scene{
	func(g *gen) []op {
		at := func(rule, text string, rev int64) op {
			c := g.compact(rev, g.chance(2))
			c.rule, c.met = rule, failed(text)
			return c
		}
		compacted, future := "mvcc: required revision has been compacted", "mvcc: required revision is a future revision"
		physical := g.compact(atCurrent(-2), true)
		physical.rule, physical.met = "1.8 compact physically", done
		return append(g.fill("1", "2", "3", "4"), physical,
			at("1.8 compact at the compacted revision", compacted, atCompacted(0)),
			at("1.8 compact below it", compacted, atCompacted(-1-g.rng.Int64N(2))),
			at("", "", -1), at("", "", 0),
			at("1.8 compact in the future", future, atCurrent(1+g.rng.Int64N(5))))
	},
	func(g *gen) []op {
		at := func(rule string, met func(*world, answer) bool, rev int64) op {
			c := g.hashKV(rev)
			c.rule, c.met = rule, met
			return c
		}
		remembered := func(w *world, a answer) bool {
			r, ok := a.only().(*pb.HashKVResponse)
			return ok && r.CompactRevision < w.compacted
		}
		return append(g.fill("1", "2", "3"), g.compact(atCurrent(-g.rng.Int64N(3)), g.chance(2)),
			at("1.8 HashKV remembers the compacted revision", remembered, atCompacted(0)),
			g.call(put, &pb.PutRequest{Key: sceneKey(0), Value: g.value()}),
			g.call(deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(1)}),
			g.call(put, &pb.PutRequest{Key: sceneKey(2), Value: g.value()}),
			at("1.8 HashKV at 0", done, 0),
			at("1.8 HashKV at the current revision", done, atCurrent(0)),
			at("1.8 HashKV in between", done, atCurrent(-1)),
			at("1.8 HashKV in between", done, atMiddle(500)),
			at("1.8 HashKV below the compacted revision", failed("mvcc: required revision has been compacted"), atCompacted(-1)),
			at("1.8 HashKV in the future", failed("mvcc: required revision is a future revision"), atCurrent(1)),
			g.meet("1.8 Hash", done, hash, &pb.HashRequest{}))
	},
	func(g *gen) []op { // compacted at a deletion, a watch from there still sees it
		ops := append(g.fill("1", "2"), g.call(deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(0)}),
			g.compact(atCurrent(0), true), g.hashKV(atCompacted(0)), g.hashKV(0))
		return append(ops, &watchThat{
			createWatch: g.createWatch(&pb.WatchCreateRequest{Key: sceneKey(0), StartRevision: atCompacted(0), PrevKv: true}),
			rule:        "1.8 a tombstone at the compacted revision is still watched",
			met:         func(_ *world, l *watchLog) bool { return len(l.events) == 1 && l.events[0].Type == deleteEvent },
		})
	},
	func(g *gen) []op {
		ops := g.fill("1")
		return append(ops,
			g.meet("1.3 the header of a defragmentation is absent",
				saw(func(r *pb.DefragmentResponse) bool { return r.Header == nil }), defragment, &pb.DefragmentRequest{}), g.status(), g.hashKV(0))
	},
}

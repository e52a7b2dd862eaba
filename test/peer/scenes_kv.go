package peer

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// A scene draws the few operations that meet one rule or a few on purpose, whatever the store holds. The last part of
// a call's text is the rule it is there for.
type scene func(g *gen) []op

// scenes are all scenes, each dealt equally often.
var scenes = slices.Concat(rangeScenes, putScenes, txnScenes, compactScenes, leaseScenes, watchScenes, memberScenes, wireScenes)

// fill makes the store hold exactly the given keys below the prefix "s/", written one after the other with these values.
// Scenes that need a known state work there, out of reach of the keys drawn at random.
func (g *gen) fill(values ...string) []op {
	ops := []op{g.call(deleteRange, &pb.DeleteRangeRequest{Key: []byte("s/"), RangeEnd: []byte("s0")})}
	for i, v := range values {
		ops = append(ops, g.call(put, &pb.PutRequest{Key: sceneKey(i), Value: []byte(v)}))
	}
	return ops
}

func sceneKey(i int) []byte { return []byte{'s', '/', byte('a' + i)} }

// sceneRange is a range over the keys of fill.
func sceneRange() *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte("s/"), RangeEnd: []byte("s0")}
}

func (g *gen) ranged(rule string, change func(*pb.RangeRequest), met func(*pb.RangeResponse) bool) op {
	r := sceneRange()
	change(r)
	return g.meet(rule, saw(met), kvRange, r)
}

func keysOf(kvs []*mvccpb.KeyValue) string {
	var b bytes.Buffer
	for _, kv := range kvs {
		b.Write(bytes.TrimPrefix(kv.Key, []byte("s/")))
	}
	return b.String()
}

var rangeScenes = []scene{
	func(g *gen) []op {
		return append(g.fill("1"),
			g.meet("1.5 single key", saw(func(r *pb.RangeResponse) bool { return r.Count == 1 }), kvRange,
				&pb.RangeRequest{Key: sceneKey(0)}),
			g.meet("1.5 single key, absent", saw(func(r *pb.RangeResponse) bool { return r.Count == 0 }), kvRange,
				&pb.RangeRequest{Key: sceneKey(1)}),
			g.meet("1.3 hasleader is served", saw(func(r *pb.RangeResponse) bool { return r.Count == 1 }), kvRange,
				&pb.RangeRequest{Key: sceneKey(0)}).with("hasleader", "true"),
			g.call(kvRange, &pb.RangeRequest{Key: sceneKey(0)}).with("client-api-version", "3.7"))
	},
	func(g *gen) []op {
		return append(g.fill("1", "2"),
			g.meet("1.5 range_end 0 is everything from the key on",
				saw(func(r *pb.RangeResponse) bool { return r.Count >= 1 && bytes.Equal(r.Kvs[0].Key, sceneKey(1)) }),
				kvRange, &pb.RangeRequest{Key: sceneKey(1), RangeEnd: []byte{0}}),
			g.meet("1.5 key 0 and range_end 0 are everything", saw(func(r *pb.RangeResponse) bool { return r.Count >= 2 }),
				kvRange, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}),
			g.meet("1.5 range_end not above key is empty", saw(func(r *pb.RangeResponse) bool { return r.Count == 0 }),
				kvRange, &pb.RangeRequest{Key: sceneKey(1), RangeEnd: sceneKey(g.rng.IntN(2))}),
			g.call(kvRange, &pb.RangeRequest{RangeEnd: []byte{0}}))
	},
	func(g *gen) []op {
		return append(g.fill("1", "2", "3"),
			g.ranged("1.5 a negative revision is the latest", func(r *pb.RangeRequest) { r.Revision = -1 - g.rng.Int64N(9) },
				func(r *pb.RangeResponse) bool { return r.Count == 3 }),
			g.ranged("1.5 old revision", func(r *pb.RangeRequest) { r.Revision = atCurrent(-1) },
				func(r *pb.RangeResponse) bool { return r.Count == 2 }),
			g.ranged("1.3 a range at an old revision has the current one in its header",
				func(r *pb.RangeRequest) { r.Revision = atCurrent(-1) },
				func(r *pb.RangeResponse) bool { return r.Kvs[1].ModRevision == r.Header.Revision-1 }),
			g.call(kvRange, &pb.RangeRequest{Key: sceneKey(0), Revision: atCurrent(1)}))
	},
	func(g *gen) []op {
		return append(g.fill("1", "2", "3"), g.compact(atCurrent(-1), g.chance(2)),
			g.ranged("1.5 the compacted revision itself", func(r *pb.RangeRequest) { r.Revision = atCompacted(0) },
				func(r *pb.RangeResponse) bool { return r.Count == 2 }),
			g.call(kvRange, &pb.RangeRequest{Key: sceneKey(0), Revision: atCompacted(-1)}),
			g.call(rangeStream, &pb.RangeRequest{Key: sceneKey(0), Revision: atCompacted(-1)}))
	},
	func(g *gen) []op {
		return append(g.fill("1", "2", "3"),
			g.ranged("1.5 count is not cut by limit", func(r *pb.RangeRequest) { r.Limit = 2 },
				func(r *pb.RangeResponse) bool { return r.Count == 3 && len(r.Kvs) == 2 }),
			g.ranged("1.5 count is not cut by filters", func(r *pb.RangeRequest) { r.MinModRevision = atCurrent(0) },
				func(r *pb.RangeResponse) bool { return r.Count == 3 && len(r.Kvs) == 1 }),
			g.ranged("1.5 count_only", func(r *pb.RangeRequest) { r.CountOnly = true; r.Limit = 1 },
				func(r *pb.RangeResponse) bool { return r.Count == 3 && len(r.Kvs) == 0 }),
			g.ranged("1.5 limit with more", func(r *pb.RangeRequest) { r.Limit = 1 }, func(r *pb.RangeResponse) bool { return r.More }),
			g.ranged("1.5 limit without more", func(r *pb.RangeRequest) { r.Limit = 3 },
				func(r *pb.RangeResponse) bool { return !r.More && len(r.Kvs) == 3 }),
			g.ranged("1.5 limit is applied after filters, more too",
				func(r *pb.RangeRequest) { r.Limit = 1; r.MinModRevision = atCurrent(-1) },
				func(r *pb.RangeResponse) bool { return r.More && keysOf(r.Kvs) == "b" }),
			g.ranged("", func(r *pb.RangeRequest) { r.Limit = 1; r.MinModRevision = atCurrent(0) },
				func(r *pb.RangeResponse) bool { return true }))
	},
	func(g *gen) []op { // values fall while keys rise, so each order differs from the keys'
		ops := append(g.fill("3", "2", "1", "2"), g.call(put, &pb.PutRequest{Key: sceneKey(0), Value: []byte("3")}))
		sorted := func(rule, want string, order pb.RangeRequest_SortOrder, target pb.RangeRequest_SortTarget) op {
			return g.ranged(rule, func(r *pb.RangeRequest) { r.SortOrder, r.SortTarget = order, target },
				func(r *pb.RangeResponse) bool { return want == "" || keysOf(r.Kvs) == want })
		}
		return append(ops,
			sorted("1.5 descending by key", "dcba", pb.RangeRequest_DESCEND, pb.RangeRequest_KEY),
			sorted("1.5 sorted by version", "", pb.RangeRequest_DESCEND, pb.RangeRequest_VERSION),
			sorted("1.5 sorted by create revision", "dcba", pb.RangeRequest_DESCEND, pb.RangeRequest_CREATE),
			sorted("1.5 sorted by mod revision", "bcda", pb.RangeRequest_ASCEND, pb.RangeRequest_MOD),
			sorted("1.5 sorted by value", "", pb.RangeRequest_ASCEND, pb.RangeRequest_VALUE),
			sorted("1.5 equal sort values", "", pb.RangeRequest_DESCEND, pb.RangeRequest_VALUE),
			g.ranged("1.5 no order with another target: limit+1 read by key, then sorted",
				func(r *pb.RangeRequest) { r.SortTarget, r.Limit = pb.RangeRequest_MOD, 1 },
				func(r *pb.RangeResponse) bool { return keysOf(r.Kvs) == "b" }),
			g.call(kvRange, &pb.RangeRequest{Key: sceneKey(0), SortOrder: 3}),
			g.call(kvRange, &pb.RangeRequest{Key: sceneKey(0), SortTarget: 7}))
	},
	func(g *gen) []op {
		ops := append(g.fill("1", "2", "3"), g.call(put, &pb.PutRequest{Key: sceneKey(0), Value: []byte("4")}))
		return append(ops,
			g.ranged("1.5 min_mod_revision", func(r *pb.RangeRequest) { r.MinModRevision = atCurrent(-1) },
				func(r *pb.RangeResponse) bool { return keysOf(r.Kvs) == "ac" }),
			g.ranged("1.5 max_mod_revision", func(r *pb.RangeRequest) { r.MaxModRevision = atCurrent(-2) },
				func(r *pb.RangeResponse) bool { return keysOf(r.Kvs) == "b" }),
			g.ranged("1.5 min_create_revision", func(r *pb.RangeRequest) { r.MinCreateRevision = atCurrent(-2) },
				func(r *pb.RangeResponse) bool { return keysOf(r.Kvs) == "bc" }),
			g.ranged("1.5 max_create_revision", func(r *pb.RangeRequest) { r.MaxCreateRevision = atCurrent(-3) },
				func(r *pb.RangeResponse) bool { return keysOf(r.Kvs) == "a" }))
	},
	func(g *gen) []op {
		id := g.leaseID()
		ops := append(g.fill("2", "1"), g.call(leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: longTTL}),
			g.call(put, &pb.PutRequest{Key: sceneKey(0), Value: []byte("2"), Lease: id}))
		return append(ops,
			g.ranged("1.5 keys_only", func(r *pb.RangeRequest) { r.KeysOnly = true },
				func(r *pb.RangeResponse) bool { return len(r.Kvs) == 2 && len(r.Kvs[1].Value) == 0 }),
			g.ranged("1.5 keys_only hides the lease", func(r *pb.RangeRequest) { r.KeysOnly = true },
				func(r *pb.RangeResponse) bool { return len(r.Kvs) == 2 && r.Kvs[0].Lease == 0 }),
			g.ranged("1.5 keys_only sorted by value", func(r *pb.RangeRequest) {
				r.KeysOnly, r.SortTarget, r.SortOrder = true, pb.RangeRequest_VALUE, pb.RangeRequest_ASCEND
			},
				func(r *pb.RangeResponse) bool { return keysOf(r.Kvs) == "ba" }),
			g.ranged("1.5 serializable", func(r *pb.RangeRequest) { r.Serializable = true },
				func(r *pb.RangeResponse) bool { return r.Count == 2 }))
	},
	func(g *gen) []op {
		ops := g.fill(slices.Repeat([]string{"v"}, 24)...)
		stream := func(rule string, change func(*pb.RangeRequest), met func(*world, answer) bool) op {
			r := sceneRange()
			change(r)
			return g.meet(rule, met, rangeStream, r)
		}
		return append(ops,
			stream("1.5 stream in several chunks", func(*pb.RangeRequest) {}, func(_ *world, a answer) bool { return a.chunks > 1 }),
			stream("1.5 stream, count_only", func(r *pb.RangeRequest) { r.CountOnly = true },
				func(_ *world, a answer) bool { return a.chunks == 1 }),
			stream("1.5 stream with limit", func(r *pb.RangeRequest) { r.Limit = 15 },
				saw(func(r *pb.RangeResponse) bool { return r.More && len(r.Kvs) == 15 })),
			stream("1.5 stream at an old revision", func(r *pb.RangeRequest) { r.Revision = atCurrent(-1) },
				saw(func(r *pb.RangeResponse) bool { return len(r.Kvs) == 23 })),
			stream("", func(r *pb.RangeRequest) { r.KeysOnly = true; r.Serializable = true }, nil),
			stream("", func(r *pb.RangeRequest) { r.Revision = atCurrent(1) }, nil),
			stream("1.5 stream refuses a sort order", func(r *pb.RangeRequest) { r.SortOrder = pb.RangeRequest_DESCEND },
				func(_ *world, a answer) bool { return a.text == "RangeStream does not support custom sort orders" }),
			stream("1.5 stream refuses filters", func(r *pb.RangeRequest) { r.MinModRevision = 1 },
				func(_ *world, a answer) bool { return a.text == "RangeStream does not support revision filters" }))
	},
}

func (g *gen) putting(rule string, met func(*world, answer) bool, r *pb.PutRequest) op {
	return g.meet(rule, met, put, r)
}

// done is the condition that an answer is not an error.
func done(_ *world, a answer) bool { return a.text == "" }

var putScenes = []scene{
	func(g *gen) []op {
		return append(g.fill(),
			g.putting("1.6 prev_kv of the first put is absent", saw(func(r *pb.PutResponse) bool { return r.PrevKv == nil }),
				&pb.PutRequest{Key: sceneKey(0), Value: []byte("1"), PrevKv: true}),
			g.putting("1.6 prev_kv of a put", saw(func(r *pb.PutResponse) bool { return string(r.PrevKv.GetValue()) == "1" }),
				&pb.PutRequest{Key: sceneKey(0), Value: []byte("2"), PrevKv: true}),
			g.putting("1.6 ignore_value", done, &pb.PutRequest{Key: sceneKey(0), IgnoreValue: true}),
			g.putting("1.6 put over a key",
				saw(func(r *pb.PutResponse) bool { return string(r.PrevKv.GetValue()) == "2" && r.PrevKv.Version == 3 }), &pb.PutRequest{Key: sceneKey(0), PrevKv: true}),
			g.call(deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(0)}),
			g.putting("1.6 put makes a deleted key anew", saw(func(r *pb.PutResponse) bool { return r.PrevKv == nil }),
				&pb.PutRequest{Key: sceneKey(0), PrevKv: true}),
			g.call(kvRange, &pb.RangeRequest{Key: sceneKey(0)}),
			g.putting("1.6 ignore_value on an absent key", failed("key not found"), &pb.PutRequest{Key: sceneKey(1), IgnoreValue: true}),
			g.putting("1.6 ignore_lease on an absent key", failed("key not found"), &pb.PutRequest{Key: sceneKey(1), IgnoreLease: true}),
			g.putting("1.6 ignore_value with a value", failed("value is provided"),
				&pb.PutRequest{Key: sceneKey(0), Value: []byte("1"), IgnoreValue: true}),
			g.putting("1.6 ignore_lease with a lease", failed("lease is provided"),
				&pb.PutRequest{Key: sceneKey(0), Lease: 7, IgnoreLease: true}),
			g.putting("1.6 put with an unknown lease", failed("requested lease not found"), &pb.PutRequest{Key: sceneKey(0), Lease: 999}),
			g.call(put, &pb.PutRequest{Value: []byte("1")}))
	},
	func(g *gen) []op { // a key moves from lease to lease and off them
		one, two := leaseIDs[0], leaseIDs[1]
		keysOn := func(rule string, id int64, n int) op {
			return g.meet(rule, saw(func(r *pb.LeaseTimeToLiveResponse) bool { return len(r.Keys) == n }), leaseTimeToLive,
				&pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		}
		return append(g.fill(),
			g.call(leaseRevoke, &pb.LeaseRevokeRequest{ID: one}), g.call(leaseRevoke, &pb.LeaseRevokeRequest{ID: two}),
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: one, TTL: longTTL}), g.call(leaseGrant,
				&pb.LeaseGrantRequest{ID: two, TTL: longTTL}),
			g.call(put, &pb.PutRequest{Key: sceneKey(0), Lease: one}), g.call(put, &pb.PutRequest{Key: sceneKey(1), Lease: one}),
			keysOn("1.10 time to live with keys", one, 2),
			g.call(put, &pb.PutRequest{Key: sceneKey(0), Lease: two}),
			keysOn("1.6 put changes the lease", one, 1),
			g.putting("1.6 ignore_lease", done, &pb.PutRequest{Key: sceneKey(0), IgnoreLease: true}),
			keysOn("", two, 1),
			g.call(put, &pb.PutRequest{Key: sceneKey(0)}),
			keysOn("1.6 put without lease detaches", two, 0),
			g.call(deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(1)}),
			keysOn("1.6 delete detaches the lease", one, 0))
	},
	func(g *gen) []op {
		deleting := func(rule string, met func(*pb.DeleteRangeResponse) bool, r *pb.DeleteRangeRequest) op {
			return g.meet(rule, saw(met), deleteRange, r)
		}
		return append(g.fill("1", "2", "3", "4"),
			deleting("1.6 prev_kvs of a delete",
				func(r *pb.DeleteRangeResponse) bool { return r.Deleted == 2 && keysOf(r.PrevKvs) == "ab" },
				&pb.DeleteRangeRequest{Key: sceneKey(0), RangeEnd: sceneKey(2), PrevKv: true}),
			deleting("1.6 delete of several keys in one revision", func(r *pb.DeleteRangeResponse) bool { return r.Deleted == 2 },
				&pb.DeleteRangeRequest{Key: sceneKey(2), RangeEnd: sceneKey(9)}),
			deleting("1.6 delete that matches nothing makes no revision", func(r *pb.DeleteRangeResponse) bool { return r.Deleted == 0 },
				&pb.DeleteRangeRequest{Key: sceneKey(0), RangeEnd: sceneKey(9), PrevKv: true}),
			g.call(deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(3), RangeEnd: sceneKey(1)}),
			g.call(deleteRange, &pb.DeleteRangeRequest{RangeEnd: []byte("z")}),
			g.putting("1.6 put", done, &pb.PutRequest{Key: sceneKey(0), Value: []byte("1")}))
	},
	func(g *gen) []op { // requests at the limits of size
		limit := g.settings.maxRequestBytes
		return append(g.fill(),
			g.call(put, &pb.PutRequest{Key: sceneKey(0), Value: g.filled(limit - 512)}),
			g.call(put, &pb.PutRequest{Key: sceneKey(1), Value: g.filled(limit + 1024)}),
			g.call(put, &pb.PutRequest{Key: sceneKey(1), Value: g.filled(limit + 512<<10 + 1024)}),
			g.call(deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(0)}))
	},
}

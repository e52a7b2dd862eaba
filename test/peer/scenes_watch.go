package peer

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// sceneWatch is a watch on the keys of fill.
func sceneWatch(change func(*pb.WatchCreateRequest)) *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{Key: []byte("s/"), RangeEnd: []byte("s0")}
	change(r)
	return r
}

// watching draws a watch on the keys of fill that has to receive, by the barrier after some more operations, what met says.
func (g *gen) watching(rule string, change func(*pb.WatchCreateRequest), met func(*world, *watchLog) bool, then ...op) op {
	return &watchThat{createWatch: g.createWatch(sceneWatch(change)), then: then, rule: rule, met: met}
}

// answered draws a watch whose answer has to be what met says, on the stream in slot.
func (g *gen) answered(rule string, slot int, r *pb.WatchCreateRequest, met func(*world, *pb.WatchResponse) bool) op {
	return &createWatch{slot: slot, request: r, rule: rule, met: met}
}

func received(n int) func(*world, *watchLog) bool {
	return func(_ *world, l *watchLog) bool { return len(l.events) == n }
}

func refusedFor(reason string) func(*world, *pb.WatchResponse) bool {
	return func(_ *world, r *pb.WatchResponse) bool {
		return r.Canceled && r.WatchId == -1 && r.CancelReason == reason
	}
}

// reset ends the stream in slot so that ids start over.
func (g *gen) reset(slot int) op { return endStream{slot: slot} }

func (g *gen) put(i int, value string) op {
	return g.call(put, &pb.PutRequest{Key: sceneKey(i), Value: []byte(value)})
}

func (g *gen) delete(i int) op {
	return g.call(deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(i)})
}

var watchScenes = []scene{
	func(g *gen) []op {
		slot := g.rng.IntN(streamSlots)
		any := func(id int64) *pb.WatchCreateRequest {
			return sceneWatch(func(r *pb.WatchCreateRequest) { r.WatchId = id })
		}
		is := func(id int64) func(*world, *pb.WatchResponse) bool {
			return func(_ *world, r *pb.WatchResponse) bool { return r.WatchId == id && !r.Canceled }
		}
		return []op{
			g.reset(slot),
			g.answered("1.9 ids count from 0", slot, any(0), is(0)),
			g.answered("1.9 chosen id", slot, any(2), is(2)),
			g.answered("", slot, any(0), nil),
			g.answered("1.9 ids skip the used ones", slot, any(0), is(3)),
			g.answered("1.9 duplicate id", slot, any(2), refusedFor("mvcc: duplicate watch ID provided on the WatchStream")),
			g.answered("1.9 empty range", slot,
				&pb.WatchCreateRequest{Key: []byte("b"),
					RangeEnd: []byte{'a' + byte(g.rng.IntN(2))}}, refusedFor("mvcc: watcher range is empty")),
			g.answered("1.9 negative start", slot, &pb.WatchCreateRequest{Key: []byte("b"), StartRevision: -1 - g.rng.Int64N(3)},
				refusedFor("etcdserver: mvcc: required revision has been compacted")),
			g.answered("", slot, any(-4), nil),
			cancelOne{slot: slot, nth: 1}, g.answered("", slot, any(2), nil), cancelOne{slot: slot, unknown: true},
			g.put(0, "1"), meet{},
		}
	},
	func(g *gen) []op {
		return append(g.fill("1"),
			g.watching("1.9 empty key", func(r *pb.WatchCreateRequest) { r.Key = nil; r.RangeEnd = []byte{0} }, received(1), g.put(0, "2")),
			g.watching("1.9 from key on", func(r *pb.WatchCreateRequest) { r.Key = sceneKey(1); r.RangeEnd = []byte{0} },
				received(2), g.put(0, "3"), g.put(1, "4"),
				g.call(put, &pb.PutRequest{Key: []byte("z")})),
			g.watching("1.9 from now on", func(*pb.WatchCreateRequest) {}, received(1), g.put(0, "5")),
			g.watching("1.9 from the past", func(r *pb.WatchCreateRequest) { r.StartRevision = atCurrent(0) }, received(2), g.put(0, "6")),
			g.watching("1.9 from the future", func(r *pb.WatchCreateRequest) { r.StartRevision = atCurrent(2) }, received(1),
				g.put(0, "7"), g.put(0, "8")))
	},
	func(g *gen) []op {
		cancelled := func(w *world, l *watchLog) bool {
			return l.canceled != nil && l.canceled.CompactRevision == w.compacted && l.canceled.Header.Revision == 0
		}
		return append(g.fill("1", "2", "3"), g.compact(atCurrent(-1), g.chance(2)),
			g.watching("1.9 start below the compacted revision",
				func(r *pb.WatchCreateRequest) { r.StartRevision = atCompacted(-1) }, cancelled),
			g.watching("", func(r *pb.WatchCreateRequest) { r.StartRevision = 1 }, cancelled),
			g.watching("", func(r *pb.WatchCreateRequest) { r.StartRevision = atCompacted(0) }, received(2)),
			g.reset(0), &createWatch{slot: 0, request: sceneWatch(func(*pb.WatchCreateRequest) {})},
			&createWatch{slot: 0, request: sceneWatch(func(r *pb.WatchCreateRequest) { r.StartRevision = 1 })}, askProgress{slot: 0})
	},
	func(g *gen) []op {
		prev := func(r *pb.WatchCreateRequest) { r.PrevKv = true }
		all := func(f func(*mvccpb.Event) bool) func(*world, *watchLog) bool {
			return func(_ *world, l *watchLog) bool {
				return len(l.events) > 0 && !slices.ContainsFunc(l.events, func(e *mvccpb.Event) bool { return !f(e) })
			}
		}
		return append(g.fill("1"),
			g.watching("1.9 prev_kv", prev, all(func(e *mvccpb.Event) bool { return e.PrevKv != nil }), g.put(0, "2"), g.delete(0)),
			g.watching("1.9 no prev_kv of a creation", prev, all(func(e *mvccpb.Event) bool { return e.PrevKv == nil }), g.put(0, "3")),
			g.put(0, "4"), g.compact(atCurrent(0), true),
			g.watching("1.9 no prev_kv below the compacted revision",
				func(r *pb.WatchCreateRequest) { r.PrevKv = true; r.StartRevision = atCompacted(0) },
				all(func(e *mvccpb.Event) bool { return e.PrevKv == nil })),
			g.watching("1.9 a delete event has key and revision only", func(*pb.WatchCreateRequest) {}, all(func(e *mvccpb.Event) bool {
				return e.Kv.CreateRevision == 0 && e.Kv.Version == 0 && e.Kv.Value == nil && e.Kv.Lease == 0 && e.Kv.ModRevision > 0
			}), g.delete(0)))
	},
	func(g *gen) []op {
		filtered := func(f ...pb.WatchCreateRequest_FilterType) func(*pb.WatchCreateRequest) {
			return func(r *pb.WatchCreateRequest) { r.Filters = f }
		}
		noPut, noDelete := pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE
		return append(g.fill(),
			g.watching("1.9 filter NOPUT", filtered(noPut), received(1), g.put(0, "1"), g.delete(0)),
			g.watching("1.9 filter NODELETE", filtered(noDelete), received(1), g.put(0, "1"), g.delete(0)),
			g.watching("1.9 both filters", filtered(noPut, noDelete), received(0), g.put(0, "1"), g.delete(0)),
			g.watching("1.9 an unknown filter", filtered(7), received(2), g.put(0, "1"), g.delete(0)),
			g.watching("", func(r *pb.WatchCreateRequest) {
				r.Filters = []pb.WatchCreateRequest_FilterType{noPut}
				r.StartRevision = atCurrent(-3)
			}, received(2)))
	},
	func(g *gen) []op {
		several := g.call(txn, then(putOf(0), putOf(1), deleteOf(4, 9), putOf(3)))
		return append(g.fill("1", "2", "3", "4", "5", "6"),
			g.watching("1.9 several events of one revision", func(r *pb.WatchCreateRequest) { r.PrevKv = true }, received(5), several),
			g.watching("", func(r *pb.WatchCreateRequest) { r.StartRevision = atCurrent(-4) }, received(9)))
	},
	func(g *gen) []op { // one revision of two events whose values, with the previous ones, pass the limit of a response
		half := g.settings.maxRequestBytes * 9 / 20
		big := func() op {
			return g.call(txn, then(opPut(&pb.PutRequest{Key: sceneKey(0), Value: g.filled(half)}),
				opPut(&pb.PutRequest{Key: sceneKey(1), Value: g.filled(half)})))
		}
		return append(g.fill(), big(),
			g.watching("1.9 fragments", func(r *pb.WatchCreateRequest) { r.PrevKv, r.Fragment = true, true },
				func(_ *world, l *watchLog) bool { return l.fragments > 0 && len(l.events) == 2 }, big()),
			g.watching("", func(r *pb.WatchCreateRequest) { r.PrevKv = true; r.StartRevision = atCurrent(0) }, received(2)),
			g.watching("", func(r *pb.WatchCreateRequest) { r.Fragment = true; r.StartRevision = atCurrent(-1) }, received(4)),
			g.delete(0), g.delete(1), g.compact(atCurrent(0), false))
	},
	func(g *gen) []op {
		slot := g.rng.IntN(streamSlots)
		ops := []op{g.reset(slot), askProgress{slot: slot}}
		ops = append(ops,
			&createWatch{slot: slot, request: sceneWatch(func(*pb.WatchCreateRequest) {})},
			g.put(0, "1"), askProgress{slot: slot},
			&createWatch{slot: slot, request: sceneWatch(func(r *pb.WatchCreateRequest) { r.StartRevision = atCompacted(0) })},
			askProgress{slot: slot})
		if g.chance(2) {
			ops = append(ops, &createWatch{slot: slot,
				request: sceneWatch(func(r *pb.WatchCreateRequest) { r.StartRevision = atCurrent(3) })},
				askProgress{slot: slot}, g.put(0, "2"), g.put(0, "3"), askProgress{slot: slot}, g.put(0, "4"), askProgress{slot: slot})
		}
		return append(ops, emptyRequest{slot: slot}, cancelOne{slot: slot})
	},
	func(g *gen) []op {
		slot := g.rng.IntN(streamSlots)
		return []op{
			g.reset(slot),
			&createWatch{slot: slot, request: sceneWatch(func(r *pb.WatchCreateRequest) { r.PrevKv = true })},
			stall{slot: slot}, g.put(0, string(g.filled(200<<10))), g.put(0, string(g.filled(200<<10))), g.delete(0), g.put(1, "x"), meet{},
			endStream{slot: slot, half: true, key: string(sceneKey(2))},
		}
	},
	func(g *gen) []op {
		request := sceneWatch(func(r *pb.WatchCreateRequest) { r.ProgressNotify = true })
		return []op{notified{g.createWatch(request)}}
	},
}

// notified is a watch that has to be told of its progress without being asked.
type notified struct{ *createWatch }

func (n notified) String() string { return n.createWatch.String() + "   # 1.9 progress_notify" }

func (n notified) run(w *world) error {
	if err := n.createWatch.run(w); err != nil || n.got == nil {
		return err
	}
	for t, s := range w.streams[n.slot] {
		told := func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.watches[n.id].notified > 0
		}
		if !eventually(told) {
			return w.differ("stream %d watch %d on %s is never told of its progress", n.slot, n.id, w.targets[t].name)
		}
	}
	w.tally.hit("1.9 progress_notify")
	return nil
}

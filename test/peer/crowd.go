package peer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	crowdClients = 8   // clients at once, each with keys of its own
	crowdOps     = 100 // operations of each
)

// A member of the crowd is one client on one server: what it was answered and what its watch saw.
//
// The clients' operations fall between one another in a different order on each server, so the revisions differ. Each
// client keeps to its own keys, so everything else must agree once its revisions are numbered in order of appearance.
type crowdMember struct {
	requests []proto.Message
	answers  []answer
	watch    *watchLog
	stream   *stream
}

// crowd lets several clients work at once on each server and compares what each was told.
func (w *world) crowd(seed uint64) error {
	before := w.current
	var members [2][crowdClients]*crowdMember
	for t := range w.targets {
		for c := range crowdClients {
			m, err := w.joinCrowd(t, c, before)
			if err != nil {
				return err
			}
			defer m.stream.close()
			members[t][c] = m
		}
		var clients sync.WaitGroup
		for c, m := range members[t] {
			clients.Go(func() { m.work(w.targets[t], rand.New(rand.NewPCG(seed, uint64(c))), c) })
		}
		clients.Wait()
	}
	var revisions [2]int64
	for t, target := range w.targets {
		r, ok := target.call(0, kvRange, nil, &pb.RangeRequest{Key: []byte("crowd")}).only().(*pb.RangeResponse)
		if !ok {
			return w.differ("%s does not answer after the crowd", target.name)
		}
		revisions[t] = r.Header.Revision
	}
	if revisions[0] != revisions[1] {
		return w.differ("after the same writes etcd is at revision %d, ours at %d", revisions[0], revisions[1])
	}
	w.current = revisions[0]
	for c := range crowdClients {
		if err := w.compareMembers(c, members[0][c], members[1][c]); err != nil {
			return err
		}
	}
	w.tally.hit("several clients at once")
	return nil
}

func crowdPrefix(c int) string { return fmt.Sprintf("crowd/%d/", c) }

// joinCrowd opens the watch of one client on its keys.
func (w *world) joinCrowd(t, c int, rev int64) (*crowdMember, error) {
	s, err := w.targets[t].openStream(c % clients)
	if err != nil {
		return nil, err
	}
	prefix := []byte(crowdPrefix(c))
	request := &pb.WatchCreateRequest{Key: prefix, RangeEnd: nextPrefix(prefix), StartRevision: rev + 1, PrevKv: true}
	if a := s.create(request); a.text != "" {
		return nil, w.differ("the watch of client %d on %s: %s", c, w.targets[t].name, a)
	}
	s.adopt(0, request, false)
	return &crowdMember{watch: s.watches[0], stream: s}, nil
}

// work runs the client's operations one after the other.
func (m *crowdMember) work(t *target, rng *rand.Rand, c int) {
	key := func() []byte { return fmt.Appendf(nil, "%s%d", crowdPrefix(c), rng.IntN(5)) }
	known := map[string]int64{} // the mod revision each key was last seen with
	for n := range crowdOps {
		var path string
		var request proto.Message
		switch k := key(); rng.IntN(5) {
		case 0:
			path, request = put, &pb.PutRequest{Key: k, Value: fmt.Appendf(nil, "%d", n), PrevKv: true}
		case 1:
			path, request = deleteRange, &pb.DeleteRangeRequest{Key: k, RangeEnd: nextPrefix(k), PrevKv: true}
		case 2:
			path, request = kvRange, &pb.RangeRequest{Key: []byte(crowdPrefix(c)), RangeEnd: nextPrefix([]byte(crowdPrefix(c))),
				Serializable: rng.IntN(2) == 0}
		default: // as a lock or a Kubernetes update is written: only if nobody came between
			path, request = txn, &pb.TxnRequest{
				Compare: []*pb.Compare{{Key: k, Target: pb.Compare_MOD,
					TargetUnion: &pb.Compare_ModRevision{ModRevision: known[string(k)]}}},
				Success: []*pb.RequestOp{opPut(&pb.PutRequest{Key: k, Value: fmt.Appendf(nil, "txn %d", n)}),
					opRange(&pb.RangeRequest{Key: k})},
				Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: k})},
			}
		}
		a := t.call(c%clients, path, nil, request)
		m.requests, m.answers = append(m.requests, request), append(m.answers, a)
		for _, r := range a.messages {
			eachKeyValue(r.ProtoReflect(), func(kv *mvccpb.KeyValue) {
				known[string(kv.Key)] = max(known[string(kv.Key)], kv.ModRevision)
			})
		}
	}
}

// eachKeyValue visits the key-values in a message.
func eachKeyValue(m protoreflect.Message, visit func(*mvccpb.KeyValue)) {
	if kv, ok := m.Interface().(*mvccpb.KeyValue); ok {
		visit(kv)
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			for i := range v.List().Len() {
				eachKeyValue(v.List().Get(i).Message(), visit)
			}
		case !f.IsList() && f.Kind() == protoreflect.MessageKind:
			eachKeyValue(v.Message(), visit)
		}
		return true
	})
}

// compareMembers compares what one client was told on both servers.
func (w *world) compareMembers(c int, want, got *crowdMember) error {
	for t, m := range []*crowdMember{want, got} {
		owed := 0
		for _, a := range m.answers {
			owed += changes(a)
		}
		if !eventually(func() bool { m.stream.mu.Lock(); defer m.stream.mu.Unlock(); return len(m.watch.events) >= owed }) {
			return w.differ("the watch of client %d on %s has %d events after %d changes", c, w.targets[t].name, len(m.watch.events), owed)
		}
		m.stream.mu.Lock()
		defer m.stream.mu.Unlock()
		if err := w.numberRevisions(c, t, m); err != nil {
			return err
		}
		if len(m.stream.broken) > 0 {
			return w.differ("the watch of client %d on %s breaks a rule: %s", c, w.targets[t].name, m.stream.broken[0])
		}
	}
	for i := range want.answers {
		if found := w.compare(want.requests[i], want.answers[i], got.answers[i]); len(found) > 0 {
			return w.differ("client %d operation %d {%s}: %s\n  etcd %s\n  ours %s", c, i, short(want.requests[i]), join(found),
				want.answers[i], got.answers[i])
		}
	}
	return w.sameEvents(fmt.Sprintf("the watch of client %d", c), want.watch, got.watch)
}

// changes counts the keys an answer says were written or deleted.
func changes(a answer) int {
	n := 0
	for _, m := range a.messages {
		switch r := m.(type) {
		case *pb.PutResponse:
			n++
		case *pb.DeleteRangeResponse:
			n += int(r.Deleted)
		case *pb.TxnResponse:
			for _, o := range r.Responses {
				if o.GetResponsePut() != nil {
					n++
				}
			}
		}
	}
	return n
}

// numberRevisions replaces the revisions of the client's own changes by their order and those that others made by 0, after
// checking that the client never saw time run backwards.
func (w *world) numberRevisions(c, t int, m *crowdMember) error {
	var own []int64
	for _, e := range m.watch.events {
		if len(own) == 0 || own[len(own)-1] != e.Kv.ModRevision {
			own = append(own, e.Kv.ModRevision)
		}
	}
	order := func(rev int64) int64 {
		at, found := slices.BinarySearch(own, rev)
		if !found {
			return 0
		}
		return int64(at) + 1
	}
	seen := int64(0)
	for i, a := range m.answers {
		for _, r := range a.messages {
			h := r.(interface{ GetHeader() *header }).GetHeader()
			if h.GetRevision() < seen {
				return w.differ("client %d on %s: operation %d is at revision %d, an earlier one was at %d", c,
					w.targets[t].name, i, h.GetRevision(), seen)
			}
			seen = h.GetRevision()
			h.Revision = order(h.Revision)
			if changes(a) == 0 {
				h.Revision = 0
			}
			if x, ok := r.(*pb.TxnResponse); ok {
				for _, o := range x.Responses {
					if p := o.GetResponsePut(); p != nil {
						p.Header.Revision = order(p.Header.GetRevision())
					} else if g := o.GetResponseRange(); g != nil {
						g.Header.Revision = 0
					}
				}
			}
			eachKeyValue(r.ProtoReflect(), func(kv *mvccpb.KeyValue) {
				kv.CreateRevision, kv.ModRevision = order(kv.CreateRevision), order(kv.ModRevision)
			})
		}
	}
	for _, e := range m.watch.events {
		for _, kv := range []*mvccpb.KeyValue{e.Kv, e.PrevKv} {
			if kv != nil {
				kv.CreateRevision, kv.ModRevision = order(kv.CreateRevision), order(kv.ModRevision)
			}
		}
	}
	return nil
}

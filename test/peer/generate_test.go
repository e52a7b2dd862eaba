package peer

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestSeedDecides draws lists from seeds: the same seed gives the same list, another seed another.
func TestSeedDecides(t *testing.T) {
	text := func(seed uint64) string {
		all := ""
		for _, o := range generate(seed, 500, settingsOf(seed)) {
			all += o.String() + "\n"
		}
		return all
	}
	first, second := text(7), text(7)
	if first != second {
		t.Error("the same seed gives two lists")
	}
	if first == text(9) {
		t.Error("two seeds give one list")
	}
}

// TestMix checks that lists are made of what they promise: about a third of the calls are txns, some nested three deep.
func TestMix(t *testing.T) {
	calls, txns, deepest := 0, 0, 0
	for _, o := range generate(3, 4000, settingsOf(3)) {
		c, ok := o.(*call)
		if !ok {
			continue
		}
		calls++
		if c.path == txn {
			txns++
			if len(c.requests) > 0 {
				deepest = max(deepest, depth(c.requests[0].(*pb.TxnRequest)))
			}
		}
	}
	if share := 100 * txns / calls; share < 25 || share > 45 {
		t.Errorf("%d %% of %d calls are txns", share, calls)
	}
	if deepest != 3 {
		t.Errorf("txns are nested %d deep", deepest)
	}
}

func depth(r *pb.TxnRequest) int {
	deepest := 0
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, o := range branch {
			if x := o.GetRequestTxn(); x != nil {
				deepest = max(deepest, depth(x))
			}
		}
	}
	return deepest + 1
}

// TestSpareEtcd shortens what ends etcd and leaves what it takes.
func TestSpareEtcd(t *testing.T) {
	endless := func(key string) *pb.RequestOp {
		return opDelete(&pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte{0}})
	}
	set := func(key string) *pb.RequestOp { return opPut(&pb.PutRequest{Key: []byte(key)}) }
	for _, c := range []struct {
		name string
		r    *pb.TxnRequest
		want bool
	}{
		{"a put after", then(endless("b"), set("c")), true},
		{"a put after, inside", then(endless("b"), opTxn(then(set("b")))), true},
		{"a put before", then(set("c"), endless("b")), true},
		{"a put below", then(endless("b"), set("a")), false},
	} {
		if got := spareEtcd(c.r); got != c.want {
			t.Errorf("%s: shortened %t, want %t", c.name, got, c.want)
		}
	}
}

// TestSymbols resolves each kind of symbol for both servers.
func TestSymbols(t *testing.T) {
	w := &world{current: 100, compacted: 20, selfID: [2]uint64{1 << 63, 1 << 63}, learnerID: [2]uint64{5, 6}, leases: [2]map[int64]int64{{1: 70}, {1: 80}}}
	r := &pb.RangeRequest{Revision: atCurrent(-3), MinModRevision: atCompacted(1), MaxModRevision: atMiddle(500), Limit: 4}
	want := &pb.RangeRequest{Revision: 97, MinModRevision: 21, MaxModRevision: 60, Limit: 4}
	if got := w.resolve(r, 0); short(got) != short(want) {
		t.Errorf("resolved to %s, want %s", short(got), short(want))
	}
	for server, id := range []int64{70, 80} {
		got := w.resolve(&pb.LeaseRevokeRequest{ID: leaseSlot(1)}, server).(*pb.LeaseRevokeRequest)
		if got.ID != id {
			t.Errorf("lease slot on server %d is %d, want %d", server, got.ID, id)
		}
	}
	got := w.resolve(&pb.MoveLeaderRequest{TargetID: self()}, 1).(*pb.MoveLeaderRequest)
	if got.TargetID != 1<<63 {
		t.Errorf("self is %d", got.TargetID)
	}
}

// TestCatalogueIsWhole checks that scenes name only rules of the catalogue.
func TestCatalogueIsWhole(t *testing.T) {
	tally := NewTally(Config{})
	for _, o := range generate(1, 6000, settingsOf(1)) {
		switch o := o.(type) {
		case *call:
			if o.rule != "" {
				tally.hit(o.rule) // panics on a rule it does not know
			}
		case *createWatch:
			if o.rule != "" {
				tally.hit(o.rule)
			}
		case *watchThat:
			if o.rule != "" {
				tally.hit(o.rule)
			}
		}
	}
}

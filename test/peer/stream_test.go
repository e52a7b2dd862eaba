package peer

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// TestStreamRules feeds a stream responses that break one rule each, and some that break none.
func TestStreamRules(t *testing.T) {
	at := func(revs ...int64) []*mvccpb.Event {
		var events []*mvccpb.Event
		for _, r := range revs {
			events = append(events, &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: r}})
		}
		return events
	}
	response := func(header int64, events []*mvccpb.Event) *pb.WatchResponse {
		return &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: header}, Events: events}
	}
	fragment := func(r *pb.WatchResponse) *pb.WatchResponse { r.Fragment = true; return r }
	canceled := &pb.WatchResponse{Canceled: true}
	for _, c := range []struct {
		name      string
		responses []*pb.WatchResponse
		broken    bool
	}{
		{"in order", []*pb.WatchResponse{response(5, at(3, 3, 5)), response(6, at(6))}, false},
		{"backwards", []*pb.WatchResponse{response(5, at(5)), response(5, at(4))}, true},
		{"twice", []*pb.WatchResponse{response(5, at(5)), response(5, at(5))}, true},
		{"backwards inside", []*pb.WatchResponse{response(5, at(5, 4))}, true},
		{"header behind", []*pb.WatchResponse{response(4, at(5))}, true},
		{"revision in fragments", []*pb.WatchResponse{fragment(response(5, at(5))), response(5, at(5, 6)[:1])}, false},
		{"after the cancellation", []*pb.WatchResponse{canceled, response(5, at(5))}, true},
		{"cancelled twice", []*pb.WatchResponse{canceled, canceled}, true},
		{"cancelled by a compaction and then by us", []*pb.WatchResponse{{Canceled: true, CompactRevision: 3}, canceled}, false},
		{"for nobody", []*pb.WatchResponse{{WatchId: 9, Header: &pb.ResponseHeader{}, Events: at(2)}}, true},
	} {
		s := &stream{watches: map[int64]*watchLog{}}
		s.take(&pb.WatchResponse{Created: true})
		s.watches[0].request = &pb.WatchCreateRequest{Fragment: true}
		for _, r := range c.responses {
			s.take(r)
		}
		if (len(s.broken) > 0) != c.broken {
			t.Errorf("%s: broken %q", c.name, s.broken)
		}
	}
}

// TestOwed counts what a watch has a right to in a small history.
func TestOwed(t *testing.T) {
	history := []*mvccpb.Event{
		{Kv: &mvccpb.KeyValue{Key: []byte("a"), ModRevision: 2}},
		{Kv: &mvccpb.KeyValue{Key: []byte("b"), ModRevision: 3}},
		{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("a"), ModRevision: 4}},
		{Kv: &mvccpb.KeyValue{Key: []byte("c"), ModRevision: 5}},
	}
	for _, c := range []struct {
		request *pb.WatchCreateRequest
		owed    int
	}{
		{&pb.WatchCreateRequest{Key: []byte("a")}, 1}, // created at revision 2: what came later
		{&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2}, 2},
		{&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c"), StartRevision: 1}, 3},
		{&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte{0}, StartRevision: 1}, 2},
		{&pb.WatchCreateRequest{RangeEnd: []byte{0}, StartRevision: 4}, 2},
		{&pb.WatchCreateRequest{RangeEnd: []byte{0}, StartRevision: 1, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}}, 1},
		{&pb.WatchCreateRequest{RangeEnd: []byte{0}, StartRevision: 1, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}}, 3},
		{&pb.WatchCreateRequest{RangeEnd: []byte{0}, StartRevision: 9}, 0},
	} {
		l := &watchLog{request: c.request, createdAt: 2}
		if got := l.owed(history); got != c.owed {
			t.Errorf("{%s}: owed %d, want %d", short(c.request), got, c.owed)
		}
	}
}

package peer

import (
	"fmt"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// watchesPerStream bounds the live watches of a stream; the lowest is cancelled to make room.
const watchesPerStream = 8

// createWatch asks for a watch on the stream in slot, opening it first when there is none.
type createWatch struct {
	slot    int
	request *pb.WatchCreateRequest
	rule    string
	met     func(w *world, r *pb.WatchResponse) bool

	id  int64     // given by the answer
	got *watchLog // the reference's log of the watch once it is created, nil when it was refused
}

func (c *createWatch) String() string {
	s := fmt.Sprintf("stream %d watch {%s}", c.slot, short(c.request))
	if c.rule != "" {
		s += "   # " + c.rule
	}
	return s
}

func (c *createWatch) run(w *world) error {
	request := w.resolve(c.request, 0).(*pb.WatchCreateRequest)
	if err := w.makeRoom(c.slot, request.StartRevision); err != nil {
		return err
	}
	pair, err := w.stream(c.slot)
	if err != nil {
		return err
	}
	if err := w.catchUp(w.targets[1], c.slot%clients, "", nil); err != nil {
		return err
	}
	want, got, err := w.exchange(request, func(t int) answer { return pair[t].create(request) }, nil)
	if err != nil {
		return err
	}
	r := want.only().(*pb.WatchResponse)
	w.tally.countRefusal(r.CancelReason)
	if c.rule != "" && c.met(w, r) {
		w.tally.hit(c.rule)
	}
	c.id, c.got = r.WatchId, nil
	if r.Canceled {
		return nil
	}
	due := request.StartRevision > 0 && request.StartRevision < w.compacted
	for t, a := range []answer{want, got} {
		pair[t].adopt(a.only().(*pb.WatchResponse).WatchId, request, due)
	}
	pair[0].mu.Lock()
	c.got = pair[0].watches[r.WatchId]
	pair[0].mu.Unlock()
	return nil
}

// watchThat is a watch that has met its rule when what it received by the next barrier satisfies met.
type watchThat struct {
	*createWatch
	then []op // run between creation and barrier
	rule string
	met  func(w *world, l *watchLog) bool
}

func (c *watchThat) String() string {
	s := c.createWatch.String() + "   # " + c.rule
	for _, o := range c.then {
		s += "\n    " + o.String()
	}
	return s
}

func (c *watchThat) run(w *world) error {
	for _, o := range append([]op{c.createWatch}, c.then...) {
		if err := o.run(w); err != nil {
			return err
		}
	}
	if err := w.barrier(); err != nil {
		return err
	}
	if c.rule != "" && c.got != nil && c.met(w, c.got) {
		w.tally.hit(c.rule)
	}
	return nil
}

// makeRoom prepares a stream for a watch from revision start. A watch from the past counts as level with the store only
// when a progress request is answered, and none is while a watch from the future waits on the same stream; so the
// first are levelled before the second come, and the second cancelled before the first come.
func (w *world) makeRoom(slot int, start int64) error {
	live := w.liveIDs(slot)
	past := start > 0 && start <= w.current
	switch {
	case start > w.current:
		if err := w.level(slot); err != nil {
			return err
		}
	case past:
		for _, id := range live {
			if w.startOf(slot, id) > w.current {
				if err := w.cancelWatch(slot, id); err != nil {
					return err
				}
			}
		}
	}
	if live = w.liveIDs(slot); len(live) >= watchesPerStream {
		if err := w.cancelWatch(slot, live[0]); err != nil {
			return err
		}
	}
	pair, err := w.stream(slot)
	if err != nil {
		return err
	}
	if past {
		pair[0].pending = true
	}
	return nil
}

// startOf returns the revision a live watch was asked to start from.
func (w *world) startOf(slot int, id int64) int64 {
	s := w.streams[slot][0]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watches[id].request.StartRevision
}

// level waits until the servers themselves count the watches of a stream as level with the store. A watch that has nothing
// to receive looks the same before and after, but a compaction still cancels it before.
func (w *world) level(slot int) error {
	pair := w.streams[slot]
	if pair == nil || !pair[0].pending {
		return nil
	}
	if err := w.barrier(); err != nil {
		return err
	}
	if err := w.confirm(slot); err != nil {
		return err
	}
	if len(w.liveIDs(slot)) > 0 {
		for t, s := range pair {
			if err := w.progressOn(t, s); err != nil {
				return err
			}
		}
	}
	pair[0].pending = false
	return nil
}

// confirm cancels what a compaction has cancelled.
func (w *world) confirm(slot int) error {
	for _, id := range w.streams[slot][0].unconfirmed() {
		if err := w.cancelWatch(slot, id); err != nil {
			return err
		}
		w.tally.hit("1.9 a watch a compaction cancelled is cancelled once more")
	}
	return nil
}

// levelAll does so for every stream.
func (w *world) levelAll() error {
	for slot := range w.streams {
		if err := w.level(slot); err != nil {
			return err
		}
	}
	return nil
}

// create sends the request and waits for its answer.
func (s *stream) create(request *pb.WatchCreateRequest) answer {
	s.mu.Lock()
	before := len(s.created)
	s.mu.Unlock()
	s.resume() // nobody reads the answer of a stream on hold
	if a, ok := s.ask(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}); !ok {
		return a
	}
	if !eventually(func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.created) > before || s.ended() }) {
		return answer{text: "peer: no answer to the creation of a watch"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.created) == before {
		return s.end
	}
	return answer{messages: []proto.Message{s.created[before]}}
}

// ask sends a request; when the stream has ended it returns how.
func (s *stream) ask(r *pb.WatchRequest) (answer, bool) {
	if err := s.client.SendMsg(r); err != nil {
		<-s.done
		return s.end, false
	}
	return answer{}, true
}

func (s *stream) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// adopt tells the log of a watch what was asked for, from where on it can say what is owed.
func (s *stream) adopt(id int64, request *pb.WatchCreateRequest, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.watches[id]
	if l == nil {
		s.breaks("an answer to a creation without a watch: %d", id)
		return
	}
	l.request, l.dueToCancel = request, due
}

// stream returns the pair of streams in slot, open.
func (w *world) stream(slot int) (*[2]*stream, error) {
	if w.streams[slot] != nil {
		return w.streams[slot], nil
	}
	var pair [2]*stream
	for t, target := range w.targets {
		s, err := target.openStream(slot % clients)
		if err != nil {
			return nil, err
		}
		pair[t] = s
	}
	w.streams[slot] = &pair
	return &pair, nil
}

func (w *world) closeStreams() {
	for slot, pair := range w.streams {
		if pair != nil {
			pair[0].close()
			pair[1].close()
		}
		w.streams[slot] = nil
	}
	for t, h := range w.histories {
		if h != nil {
			h.stream.close()
		}
		w.histories[t] = nil
	}
	for _, h := range w.others {
		h.stream.close()
	}
	w.others = nil
}

// liveIDs returns the ids of the reference's live watches in slot, lowest first.
func (w *world) liveIDs(slot int) []int64 {
	if w.streams[slot] == nil {
		return nil
	}
	s := w.streams[slot][0]
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.live()))
}

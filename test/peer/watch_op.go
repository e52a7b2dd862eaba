package peer

import (
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// silence is how long an answer that must not come is waited for. Servers answer within a few milliseconds; one that
// comes later is still found, by the next operation on the stream.
const silence = 50 * time.Millisecond

// cancelWatch cancels one watch once it has all it is owed, and waits for the word of it.
func (w *world) cancelWatch(slot int, id int64) error {
	if err := w.barrier(); err != nil {
		return err
	}
	pair := w.streams[slot]
	again := slices.Contains(pair[0].unconfirmed(), id)
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
	_, _, err := w.exchange(request, func(t int) answer {
		s := pair[t]
		if a, ok := s.ask(request); !ok {
			return a
		}
		s.mu.Lock()
		l := s.watches[id]
		s.mu.Unlock()
		said := &l.canceled
		if again {
			said = &l.confirmed
		}
		if !eventually(func() bool { s.mu.Lock(); defer s.mu.Unlock(); return *said != nil || s.ended() }) {
			return answer{text: "peer: no answer to the cancellation of a watch"}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if *said == nil {
			return s.end
		}
		return answer{messages: []proto.Message{*said}}
	}, nil)
	return err
}

// cancelOne cancels the nth live watch of a stream, or one that does not exist.
type cancelOne struct {
	slot    int
	nth     int
	unknown bool
}

func (c cancelOne) String() string {
	if c.unknown {
		return fmt.Sprintf("stream %d cancel a watch that does not exist", c.slot)
	}
	return fmt.Sprintf("stream %d cancel the watch at place %d", c.slot, c.nth)
}

func (c cancelOne) run(w *world) error {
	if c.unknown {
		if err := w.expectSilence(c.slot, &pb.WatchRequest{
			RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 99999}}}); err != nil {
			return err
		}
		w.tally.hit("1.9 cancelling an unknown id says nothing")
		return nil
	}
	live := w.liveIDs(c.slot)
	if len(live) == 0 {
		return nil
	}
	if err := w.cancelWatch(c.slot, live[c.nth%len(live)]); err != nil {
		return err
	}
	w.tally.hit("1.9 cancel")
	return nil
}

// expectSilence sends a request nobody answers and sees that nobody does.
func (w *world) expectSilence(slot int, request *pb.WatchRequest) error {
	pair, err := w.stream(slot)
	if err != nil {
		return err
	}
	if err := w.barrier(); err != nil {
		return err
	}
	return w.silent(slot, pair[:], request)
}

// silent does so for the first servers of a pair.
func (w *world) silent(slot int, pair []*stream, request *pb.WatchRequest) error {
	count := func(s *stream) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := len(s.created) + len(s.broken)
		if request.GetProgressRequest() != nil {
			n += len(s.progress)
		}
		for _, l := range s.watches {
			if l.canceled != nil {
				n++
			}
		}
		return n
	}
	var before [2]int
	for t, s := range pair {
		s.settle()
		before[t] = count(s)
		if a, ok := s.ask(request); !ok {
			return w.differ("stream %d on %s ended: %s", slot, w.targets[t].name, a)
		}
	}
	time.Sleep(silence)
	for t, s := range pair {
		if count(s) != before[t] || s.ended() {
			return w.differ("stream %d on %s answered {%s}, which has no answer", slot, w.targets[t].name, short(request))
		}
	}
	return nil
}

// endStream ends the streams in a slot: half, which the server takes as "no more requests" and goes on delivering, and
// then for good.
type endStream struct {
	slot int
	half bool
	key  string // put after the half-close
}

func (e endStream) String() string {
	return fmt.Sprintf("stream %d end, after a half-close and a put of %q: %t", e.slot, e.key, e.half)
}

func (e endStream) run(w *world) error {
	pair := w.streams[e.slot]
	if pair == nil {
		return nil
	}
	if e.half {
		for t, s := range pair {
			if err := s.client.CloseSend(); err != nil {
				return w.differ("half-close on %s: %v", w.targets[t].name, err)
			}
		}
		write := &call{path: put, requests: []proto.Message{&pb.PutRequest{Key: []byte(e.key), Value: []byte("after")}}}
		if err := write.run(w); err != nil {
			return err
		}
	}
	if err := w.barrier(); err != nil {
		return err
	}
	for t, s := range pair {
		if s.ended() {
			return w.differ("stream %d on %s ended by itself: %s", e.slot, w.targets[t].name, s.end)
		}
		s.close()
	}
	w.streams[e.slot] = nil
	if e.half {
		w.tally.hit("1.9 a half-closed stream goes on delivering")
	}
	return nil
}

// stall stops reading a stream until the next barrier.
type stall struct{ slot int }

func (s stall) String() string { return fmt.Sprintf("stream %d is not read for a while", s.slot) }

func (s stall) run(w *world) error {
	if w.streams[s.slot] == nil {
		return nil
	}
	for _, one := range w.streams[s.slot] {
		one.hold()
	}
	w.tally.hit("1.9 a slow reader loses nothing")
	return nil
}

// emptyRequest sends a watch request that asks for nothing.
type emptyRequest struct{ slot int }

func (e emptyRequest) String() string { return fmt.Sprintf("stream %d empty request", e.slot) }

func (e emptyRequest) run(w *world) error {
	if err := w.expectSilence(e.slot, &pb.WatchRequest{}); err != nil {
		return err
	}
	w.tally.hit("1.9 a request that asks for nothing is ignored")
	return nil
}

// meet is a barrier in the list of operations.
type meet struct{}

func (meet) String() string     { return "all watches have what they are owed" }
func (meet) run(w *world) error { return w.barrier() }

package peer

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

const (
	streamSlots  = 4                // watch streams that may be open at once, beside the one for the history
	deliverLimit = 15 * time.Second // for what a server owes a watch; etcd looks after late watches every 100 ms
)

// history is the stream of everything that happened, one on each server: a watch on all keys from the start.
type history struct {
	stream *stream
	log    *watchLog
}

// openHistory starts the watch on everything from revision from, on one connection.
func (t *target) openHistory(conn int, from int64) (*history, error) {
	s, err := t.openStream(conn)
	if err != nil {
		return nil, err
	}
	request := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from}
	if err := s.client.SendMsg(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}); err != nil {
		return nil, fmt.Errorf("watch everything on %s: %w", t.name, err)
	}
	if !eventually(func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.watches[0] != nil }) {
		return nil, fmt.Errorf("watch everything on %s: no answer", t.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches[0].request = request
	return &history{stream: s, log: s.watches[0]}, nil
}

// events returns what the history holds so far. The slice grows elsewhere but its elements stay.
func (h *history) events() []*mvccpb.Event {
	h.stream.mu.Lock()
	defer h.stream.mu.Unlock()
	return h.log.events
}

// reached says whether the history holds revision rev. Every revision above 1 has an event.
func (h *history) reached(rev int64) bool {
	h.stream.mu.Lock()
	defer h.stream.mu.Unlock()
	return rev <= max(1, h.log.lastRev, h.log.request.StartRevision-1) && !h.log.open || h.log.canceled != nil
}

// eventually waits until what holds and says whether it came to that.
func eventually(what func() bool) bool { return within(deliverLimit, what) }

// within does so for as long as limit.
func within(limit time.Duration, what func() bool) bool {
	for wait, end := 50*time.Microsecond, time.Now().Add(limit); ; wait = min(2*wait, 5*time.Millisecond) {
		if what() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(wait)
	}
}

// barrier waits until every watch on both servers has received what the history demands, and compares the two. What an
// operation does that depends on how far a watch has come (a compaction, a cancellation) stands behind a barrier.
func (w *world) barrier() error {
	for t := range w.targets {
		for _, pair := range w.streams {
			if pair != nil {
				pair[t].resume()
			}
		}
		if !eventually(func() bool { return w.histories[t].reached(w.current) }) {
			return w.differ("the watch on everything on %s has not reached revision %d", w.targets[t].name, w.current)
		}
	}
	if err := w.sameEvents("everything", w.histories[0].log, w.histories[1].log); err != nil {
		return err
	}
	for n, h := range w.others {
		name := fmt.Sprintf("everything on member %d", n+1)
		if !eventually(func() bool { return h.reached(w.current) }) {
			return w.differ("the watch on %s has not reached revision %d", name, w.current)
		}
		if err := w.sameEvents(name, w.histories[0].log, h.log); err != nil {
			return err
		}
	}
	for slot, pair := range w.streams {
		if pair == nil {
			continue
		}
		if err := w.streamBarrier(slot, pair); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) streamBarrier(slot int, pair *[2]*stream) error {
	for t, s := range pair {
		if !eventually(func() bool { return w.caughtUp(t, s) }) {
			return w.differ("stream %d on %s: %s", slot, w.targets[t].name, w.behind(t, s))
		}
	}
	for _, s := range pair {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	want, got := slices.Sorted(maps.Keys(pair[0].watches)), slices.Sorted(maps.Keys(pair[1].watches))
	if !slices.Equal(want, got) {
		return w.differ("stream %d: etcd has the watches %v, ours %v", slot, want, got)
	}
	for _, id := range want {
		name := fmt.Sprintf("stream %d watch %d", slot, id)
		if err := w.sameLog(name, pair[0].watches[id], pair[1].watches[id]); err != nil {
			return err
		}
	}
	for t, s := range pair {
		if len(s.broken) > 0 {
			return w.differ("stream %d on %s breaks a rule: %s", slot, w.targets[t].name, s.broken[0])
		}
	}
	return nil
}

// caughtUp says whether every watch on the stream has what it is owed.
func (w *world) caughtUp(t int, s *stream) bool {
	events := w.histories[t].events()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.watches {
		if l.request == nil || l.canceled != nil {
			continue
		}
		if l.dueToCancel || l.owed(events) > len(l.events) || l.open {
			return false
		}
	}
	return true
}

// behind describes the first watch that is not caught up.
func (w *world) behind(t int, s *stream) string {
	events := w.histories[t].events()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.watches)) {
		l := s.watches[id]
		if l.request == nil || l.canceled != nil {
			continue
		}
		if l.dueToCancel {
			return fmt.Sprintf("watch %d starts below the compacted revision and is not cancelled: %s", id, short(l.request))
		}
		if owed := l.owed(events); owed > len(l.events) {
			return fmt.Sprintf("watch %d has %d of %d events, last at %d: %s", id, len(l.events), owed, l.lastRev, short(l.request))
		}
	}
	return "no watch is behind any more"
}

// owed counts the events of the history the watch has a right to.
func (l *watchLog) owed(events []*mvccpb.Event) int {
	for ; l.seen < len(events); l.seen++ {
		if l.wants(events[l.seen]) {
			l.expected++
		}
	}
	return l.expected
}

// wants says whether the watch asked for this event.
func (l *watchLog) wants(e *mvccpb.Event) bool {
	start := l.request.StartRevision
	if start == 0 {
		start = l.createdAt + 1
	}
	if e.Kv.ModRevision < start || !inRange(e.Kv.Key, l.request.Key, l.request.RangeEnd) {
		return false
	}
	for _, f := range l.request.Filters {
		if f == pb.WatchCreateRequest_NOPUT && e.Type == mvccpb.Event_PUT ||
			f == pb.WatchCreateRequest_NODELETE && e.Type == mvccpb.Event_DELETE {
			return false
		}
	}
	return true
}

// inRange says whether a watch on [key, end) sees k, with etcd's conventions for empty keys and ends.
func inRange(k, key, end []byte) bool {
	if len(key) == 0 {
		key = []byte{0}
	}
	switch {
	case len(end) == 0:
		return bytes.Equal(k, key)
	case bytes.Equal(end, []byte{0}):
		return bytes.Compare(k, key) >= 0
	}
	return bytes.Compare(k, key) >= 0 && bytes.Compare(k, end) < 0
}

// sameLog compares what one watch received on both servers.
func (w *world) sameLog(name string, want, got *watchLog) error {
	if (want.canceled == nil) != (got.canceled == nil) {
		return w.differ("%s: cancelled on etcd %s, on ours %s", name, short(want.canceled), short(got.canceled))
	}
	if want.canceled != nil {
		a, b := answer{messages: []proto.Message{want.canceled}}, answer{messages: []proto.Message{got.canceled}}
		if found := w.compare(nil, a, b); len(found) > 0 {
			return w.differ("%s: cancellation: %s", name, found[0])
		}
	}
	return w.sameEvents(name, want, got)
}

// sameEvents compares the events that arrived since the last barrier. For a watch that did not ask for previous values
// ours must send none; etcd's may carry some, see differences.txt. etcd's may lack them in what happened before the watch was created.
func (w *world) sameEvents(name string, want, got *watchLog) error {
	for ; got.compared < min(len(want.events), len(got.events)); got.compared++ {
		a, b := want.events[got.compared], got.events[got.compared]
		if want.request != nil && !want.request.PrevKv {
			a.PrevKv = nil
			if w.cluster != nil { // the member may be an etcd
				b.PrevKv = nil
			}
		}
		if want.request != nil && want.request.PrevKv && want.request.StartRevision != 0 && a.PrevKv == nil && a.Kv.GetModRevision() <= want.createdAt {
			b.PrevKv = nil // etcd's watch begins before it is noted that it asked for previous values
		}
		found := w.compare(nil, answer{messages: []proto.Message{a}}, answer{messages: []proto.Message{b}})
		if len(found) > 0 {
			return w.differ("%s: event %d: %s\n  etcd %s\n  ours %s", name, got.compared, found[0], short(a), short(b))
		}
	}
	if len(want.events) != len(got.events) {
		return w.differ("%s: etcd delivered %d events, ours %d", name, len(want.events), len(got.events))
	}
	return nil
}

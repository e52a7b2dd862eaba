package watch

import (
	"slices"
	"sync/atomic"

	"holdfast/kv"
)

// NoID is the watch id of answers that concern no watcher or all of a stream.
const NoID int64 = -1

// Stream holds the watchers of one client stream. Next is for one goroutine, the other methods are for any.
type Stream struct {
	hub  *Hub
	wake func()

	// answering tells that answers is not empty, for Next to see without the lock.
	answering atomic.Bool
	// closed is set under Hub.mu and seen by Next without it.
	closed atomic.Bool

	// Hub.mu guards these.
	at       int    // place in Hub.streams
	beside   uint64 // see Beside
	asleep   bool   // Next has returned nothing, and wake was not called since
	nextID   int64
	watchers map[int64]*watcher // those ended by a compaction stay until the client cancels them, as in etcd
	alive    int                // watchers not ended
	notified []*watcher         // those that want progress_notify
	future   []*watcher         // those whose start lay ahead when last looked at
	cursors  []*cursor          // all, in any state
	live     map[*group]*cursor // the live ones
	ready    queue[*cursor]
	behind   order
	lagging  int           // cursors that are behind or in hand as such
	answers  queue[answer] // sent before any event
	asked    int           // progress requests in answers

	// The rest is Next's own.
	hand    *cursor // the cursor it works with
	batch   batch   // what that cursor's watchers are being sent
	source  source  // where it reads, if it is behind
	scratch []*item // of batch
	turn    bool    // whether it was the turn of a ready cursor
	near    bool    // whether it was the turn of a cursor near the head
	// barrier is how many ready cursors are still to be looked at before the progress request in front of answers
	// may be answered; -1 if they have not been counted.
	barrier int
}

// answer is something queued for the client: a finished response, or a request for progress.
type answer struct {
	response Response
	// born is the cursor that may read once the response, its creation, is out.
	born *cursor
	// told is the watcher whose progress the response tells.
	told *watcher
	// progress asks to tell that everything up to the response's revision has been delivered to all watchers. It
	// waits until that is so.
	progress bool
}

// NewStream makes a stream. wake is called when there is something to pull, at most once until Next has returned
// nothing again; the first time when the first request is made. It must not wait; it may be called from the applier.
func (h *Hub) NewStream(wake func()) *Stream {
	s := &Stream{
		hub: h, wake: wake, asleep: true, barrier: -1,
		watchers: make(map[int64]*watcher), live: make(map[*group]*cursor),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.at = len(h.streams)
	h.streams = append(h.streams, s)
	return s
}

// Beside says that the stream shares a connection, or whatever it is, with the others of that number: they are woken one after the other, so that what
// they send can go out together. 0 is no number.
func (s *Stream) Beside(number uint64) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.beside = number
}

// Pending is the number of answers, events aside, that wait to be pulled. It has no bound of its own: a client that
// sends requests without reading must be stopped by not reading its requests.
func (s *Stream) Pending() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.answers.len()
}

// Close ends all watches. Next returns nothing from now on.
func (s *Stream) Close() {
	h := s.hub
	h.mu.Lock()
	defer h.unlock()
	if s.closed.Swap(true) {
		return
	}
	for _, w := range s.watchers {
		w.ended.Store(true)
	}
	clear(s.watchers)
	s.notified, s.future, s.alive = nil, nil, 0
	for len(s.cursors) > 0 {
		s.discard(s.cursors[len(s.cursors)-1])
	}
	last := h.streams[len(h.streams)-1]
	h.streams[s.at], last.at = last, s.at
	h.streams[len(h.streams)-1] = nil
	h.streams = h.streams[:len(h.streams)-1]
	s.answers = queue[answer]{}
	s.rouse()
}

// The methods below need Hub.mu.

func (s *Stream) response(id int64) Response {
	r := Response{Revision: s.hub.head}
	r.WatchID = id
	return r
}

func (s *Stream) queue(a answer) {
	if s.closed.Load() {
		return
	}
	s.answers.push(a)
	s.answering.Store(true)
	s.rouse()
}

func (s *Stream) rouse() {
	if s.asleep {
		s.asleep = false
		s.hub.rousing = append(s.hub.rousing, s)
	}
}

// expired ends a watcher whose place has been compacted and gives the answer that tells so. Its id stays taken until
// the client cancels it.
func (s *Stream) expired(w *watcher, compacted kv.Revision) answer {
	s.end(w)
	var r Response
	r.WatchID, r.Canceled, r.CompactRevision = w.id, true, compacted
	return answer{response: r}
}

// end takes w from its cursor.
func (s *Stream) end(w *watcher) {
	if w.ended.Swap(true) {
		return
	}
	s.alive--
	c := w.cursor
	if c == nil {
		return
	}
	c.remove(w)
	if len(c.watchers) == 0 && c.state != inHand {
		s.discard(c)
	}
}

// enlist adds w to a list that still holds watchers that have ended, of which it drops enough to keep the list in
// proportion to the living.
func (s *Stream) enlist(list []*watcher, w *watcher) []*watcher {
	if len(list) > 2*s.alive+8 {
		list = slices.DeleteFunc(list, func(w *watcher) bool { return w.ended.Load() })
	}
	return append(list, w)
}

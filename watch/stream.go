package watch

import (
	"bytes"
	"slices"
	"sync/atomic"

	"holdfast/kv"
)

// NoID is the watch id of answers that concern no watcher or all of a stream.
const NoID int64 = -1

// The reasons etcd gives when it refuses a watch.
const (
	reasonDuplicate  = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonEmptyRange = "mvcc: watcher range is empty"
	reasonCompacted  = "etcdserver: mvcc: required revision has been compacted"
)

// progressMax bounds the progress requests that wait on a stream. A client that asks faster than it reads hears
// nothing to the rest, as it would if a watcher were behind.
const progressMax = 16

// Stream holds the watchers of one client stream. Next is for one goroutine, the other methods are for any.
type Stream struct {
	hub  *Hub
	wake func()

	// answering tells that answers is not empty, for Next to see without the lock.
	answering atomic.Bool
	// closed is set under Hub.mu and seen by Next without it.
	closed atomic.Bool

	// Hub.mu guards these.
	at       int  // place in Hub.streams
	asleep   bool // Next has returned nothing, and wake was not called since
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
	s := &Stream{hub: h, wake: wake, asleep: true, barrier: -1, watchers: make(map[int64]*watcher), live: make(map[*group]*cursor)}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.at = len(h.streams)
	h.streams = append(h.streams, s)
	return s
}

// Pending is the number of answers, events aside, that wait to be pulled. It has no bound of its own: a client that
// sends requests without reading must be stopped by not reading its requests.
func (s *Stream) Pending() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.answers.len()
}

// Create starts a watch, or queues an answer that says why not. The permission to read the range is the caller's to
// check, for a start that is not negative: etcd looks at that first.
func (s *Stream) Create(q *kv.WatchCreate) {
	span := kv.KeyRange{Key: bytes.Clone(q.Key), End: bytes.Clone(q.End)}
	if len(span.Key) == 0 {
		span.Key = []byte{0} // the smallest key there is
	}
	compacted := s.hub.history.history.Compacted()

	s.hub.mu.Lock()
	defer s.hub.unlock()
	if s.closed.Load() {
		return
	}
	id, reason := s.admit(q, span)
	if reason != "" {
		s.refuse(reason)
		return
	}
	w := &watcher{id: id, notify: q.ProgressNotify, start: q.Start}
	s.watchers[id] = w
	s.alive++
	if w.notify {
		s.notified = s.enlist(s.notified, w)
	}
	created := answer{response: s.response(id)}
	created.response.Created = true
	switch {
	case q.Start == 0 || q.Start > s.hub.head:
		w.from = max(q.Start, s.hub.head+1)
		if w.start > s.hub.head {
			s.future = s.enlist(s.future, w)
		}
		s.joinLive(w, s.hub.join(span, optionsOf(q)))
	case q.Start < compacted:
		s.queue(created)
		s.queue(s.expired(w, compacted))
		return
	default:
		created.born = s.newCursor(s.hub.join(span, optionsOf(q)))
		created.born.state, created.born.next = unborn, kv.Rev{Main: q.Start}
		created.born.add(w)
	}
	s.queue(created)
}

// admit chooses the id of a watch, or says why there can be none.
func (s *Stream) admit(q *kv.WatchCreate, span kv.KeyRange) (id int64, reason string) {
	switch {
	case q.Start < 0:
		return NoID, reasonCompacted
	case span.IsEmpty():
		return NoID, reasonEmptyRange
	case q.ID == 0:
		for s.watchers[s.nextID] != nil {
			s.nextID++
		}
		s.nextID++
		return s.nextID - 1, ""
	case s.watchers[q.ID] != nil:
		return NoID, reasonDuplicate
	}
	return q.ID, ""
}

// Refuse answers a request to watch that is not permitted; reason is what the client is told.
func (s *Stream) Refuse(reason string) {
	s.hub.mu.Lock()
	defer s.hub.unlock()
	s.refuse(reason)
}

func (s *Stream) refuse(reason string) {
	r := s.response(NoID)
	r.Created, r.Canceled, r.CancelReason = true, true, reason
	s.queue(answer{response: r})
}

func optionsOf(q *kv.WatchCreate) options {
	var opts options
	for _, o := range []struct {
		set bool
		opt options
	}{{q.PrevKV, optPrev}, {q.NoPut, optNoPut}, {q.NoDelete, optNoDelete}, {q.Fragment, optFragment}} {
		if o.set {
			opts |= o.opt
		}
	}
	return opts
}

// Cancel ends a watch and queues the answer. An id that is not in use has none.
func (s *Stream) Cancel(id int64) {
	s.hub.mu.Lock()
	defer s.hub.unlock()
	w := s.watchers[id]
	if w == nil {
		return
	}
	delete(s.watchers, id)
	s.end(w)
	r := s.response(id)
	r.Canceled = true
	s.queue(answer{response: r})
}

// RequestProgress queues one answer for all watchers of the stream: that everything up to its revision has been
// delivered. There is none unless every watcher is level with the log and its start has been reached. (One whose
// creation is still queued, with a start in the past, is behind when the request's turn comes.)
func (s *Stream) RequestProgress() {
	s.hub.mu.Lock()
	defer s.hub.unlock()
	s.future = slices.DeleteFunc(s.future, func(w *watcher) bool { return w.ended.Load() || w.start <= s.hub.head })
	level := s.alive > 0 && s.lagging+len(s.future) == 0
	if !level || s.asked == progressMax {
		return
	}
	s.asked++
	s.queue(answer{response: s.response(NoID), progress: true})
}

// Tick ends an interval of progress_notify: each watcher that wants it, got nothing since the last tick and is level
// with the log is told so.
func (s *Stream) Tick() {
	s.hub.mu.Lock()
	defer s.hub.unlock()
	s.notified = slices.DeleteFunc(s.notified, func(w *watcher) bool { return w.ended.Load() })
	for _, w := range s.notified {
		quiet := !w.told.Swap(false)
		if quiet && !w.telling && w.cursor.state == idle && w.start <= s.hub.head {
			w.telling = true
			s.queue(answer{response: s.response(w.id), told: w})
		}
	}
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

func (s *Stream) addReady(c *cursor) {
	s.ready.push(c)
	s.rouse()
}

func (s *Stream) addBehind(c *cursor) {
	c.state = behind
	s.behind.add(c)
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

func (s *Stream) newCursor(g *group) *cursor {
	c := &cursor{stream: s, group: g, at: len(s.cursors)}
	s.cursors = append(s.cursors, c)
	return c
}

// joinLive lets w follow the live cursor of g, on which the caller holds a place for a new one.
func (s *Stream) joinLive(w *watcher, g *group) {
	c := s.live[g]
	if c == nil {
		c = s.newCursor(g)
		s.enliven(c)
		g.rest(c)
	} else {
		s.hub.quit(g)
	}
	c.add(w)
}

func (s *Stream) enliven(c *cursor) {
	c.live = true
	s.live[c.group] = c
}

// lag makes a live, busy cursor one that is behind.
func (s *Stream) lag(c *cursor) {
	s.unlive(c)
	s.lagging++
	s.addBehind(c)
}

func (s *Stream) unlive(c *cursor) {
	c.live = false
	delete(s.live, c.group)
	c.group.leave()
}

// discard removes a cursor for good. Where a list still holds it, it is skipped there.
func (s *Stream) discard(c *cursor) {
	switch {
	case c.live:
		if c.state == idle {
			c.group.unrest(c)
			c.group.busy++ // as what unlive takes it for
		}
		s.unlive(c)
	case c.state != unborn:
		s.lagging--
	}
	c.state = closed
	last := s.cursors[len(s.cursors)-1]
	s.cursors[c.at], last.at = last, c.at
	s.cursors[len(s.cursors)-1] = nil
	s.cursors = s.cursors[:len(s.cursors)-1]
	s.hub.quit(c.group)
}

package watch

import (
	"bytes"
	"slices"

	"holdfast/kv"
)

// The reasons etcd gives when it refuses a watch.
const (
	reasonDuplicate  = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonEmptyRange = "mvcc: watcher range is empty"
	reasonCompacted  = "etcdserver: mvcc: required revision has been compacted"
)

// progressMax bounds the progress requests that wait on a stream. A client that asks faster than it reads hears
// nothing to the rest, as it would if a watcher were behind.
const progressMax = 16

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

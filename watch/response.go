package watch

import (
	"sort"

	"holdfast/kv"
)

// Response is one answer to the client.
type Response struct {
	kv.WatchAnswer
	// Revision belongs in the header: for events a revision up to which the watcher now has everything, 0 where a
	// compaction ended it.
	Revision kv.Revision
	// Events are framed events (kv.AppendEvent). They are shared and must not be changed.
	Events [][]byte
	// EventBytes is the sum of their lengths.
	EventBytes int
	// Followers is how many watchers get the same events with the next responses, but for those that are canceled meanwhile: Next has them at once.
	Followers int
}

// answerBytes is room for all of a response but its events: header, ids and flags.
const answerBytes = 80

// batch is a run of events on its way to the watchers of the cursor in hand.
type batch struct {
	watchers []*watcher // those who have not got it yet
	items    []*item
	frames   [][]byte // of items, made when the first watcher is sent them
	revision kv.Revision
	// sent is how many of items the first of watchers has got in fragments.
	sent int
	// amid says that the first of watchers got fragments of this revision in the batch before.
	amid bool
	// open says that there is more of the revision, the only one here, in batches to come: everything is sent as
	// fragments, and what fills none is left to the next batch. There is one watcher.
	open bool
	// given counts the events that watchers have got.
	given int64
}

func (b *batch) done() bool { return len(b.watchers) == 0 }

// split tells that a watcher has got some of the fragments of an answer and must get the others next, even if it has
// been canceled since: clients put together what follows each other, and take nothing else until it is whole.
func (b *batch) split() bool { return b.sent > 0 || b.amid }

// advance turns to the next watcher.
func (b *batch) advance() { b.watchers, b.sent, b.amid = b.watchers[1:], 0, false }

// due is the place of the first event that w wants.
func (b *batch) due(w *watcher) int {
	if b.items[0].Rev.Main >= w.from {
		return 0
	}
	return sort.Search(len(b.items), func(i int) bool { return b.items[i].Rev.Main >= w.from })
}

// send gives the next watcher of the batch its events. It reports false if none is left that wants any.
func (s *Stream) send() (Response, bool) {
	b := &s.batch
	if b.frames == nil && !b.done() {
		b.frames = s.encode(b.items)
	}
	for ; !b.done(); b.advance() {
		w := b.watchers[0]
		first := max(b.sent, b.due(w))
		if first == len(b.items) || (w.ended.Load() && !b.split()) {
			continue
		}
		n, size := s.fit(b.frames[first:])
		if b.open && first+n == len(b.items) {
			s.hand.held = b.items[first:]
			continue
		}
		r := Response{Revision: b.revision, Events: b.frames[first : first+n : first+n], EventBytes: size}
		r.WatchID = w.id
		w.told.Store(true)
		b.given += int64(n)
		if first+n < len(b.items) {
			r.Fragment = true
			b.sent = first + n
			s.hand.running = b.open
		} else {
			b.advance()
			r.Followers = len(b.watchers)
		}
		return r, true
	}
	return Response{}, false
}

// encode gives the framed bytes of items, as the cursor in hand wants them. The KeyValue before a change belongs to the
// revision before it: where that has been compacted there is none, whether the event comes from the log or the history.
func (s *Stream) encode(items []*item) [][]byte {
	withPrev, compacted := s.hand.group.withPrev(), s.hub.history.history.Compacted()
	if len(items) == 1 {
		return items[0].frames(withPrev && items[0].Rev.Main > compacted, &s.hub.encodings)
	}
	frames := make([][]byte, len(items))
	for i, it := range items {
		frames[i] = it.frames(withPrev && it.Rev.Main > compacted, &s.hub.encodings)[0]
	}
	return frames
}

// fit tells how many of frames go into one answer, at least one, and their size.
func (s *Stream) fit(frames [][]byte) (n, size int) {
	for _, frame := range frames {
		if s.hand.group.fragments() && n > 0 && answerBytes+size+len(frame) >= s.hub.fragmentBytes {
			break
		}
		size += len(frame)
		n++
	}
	return n, size
}

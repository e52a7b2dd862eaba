package watch

import "holdfast/kv"

// act is what Next does next.
type act uint8

const (
	rest   act = iota // there is nothing
	reply             // send a queued answer
	convey            // send from the batch
	fetch             // read for the cursor in hand
	again             // look again
)

// Next pulls the next response. It reports false if there is none: wake is called when there is. Events of whole
// revisions are put together up to maxBytes, and up to the stream's share of what all may have in hand; a single revision may be larger. If no watcher has anything in the log,
// those that are behind read, block by block, until one has something. The error is one of reading the history;
// the next call tries again.
func (s *Stream) Next(maxBytes int) (Response, bool, error) {
	for {
		if !s.closed.Load() && (s.batch.split() || !s.answering.Load()) {
			if r, ok := s.send(); ok {
				return r, true, nil
			}
		}
		act, r := s.decide(maxBytes)
		switch act {
		case rest:
			return Response{}, false, nil
		case reply:
			return r, true, nil
		case convey:
			if r, ok := s.send(); ok {
				return r, true, nil
			}
		case fetch:
			if err := s.fetch(maxBytes); err != nil {
				return Response{}, false, err
			}
		}
	}
}

// The methods below need Hub.mu.

// decide chooses the next act: answers come before events.
func (s *Stream) decide(maxBytes int) (act, Response) {
	s.hub.mu.Lock()
	defer s.hub.unlock()
	maxBytes = min(maxBytes, s.hub.share())
	if s.batch.done() {
		s.putBack()
	}
	if s.closed.Load() {
		s.batch = batch{}
		return rest, Response{}
	}
	if s.hand != nil && s.batch.done() {
		return s.approach(s.hand), Response{} // amid a revision sent in fragments; nothing may come between
	}
	if !s.batch.split() {
		if act, r := s.answer(maxBytes); act != again {
			return act, r
		}
	}
	if !s.batch.done() {
		return convey, Response{}
	}
	return s.choose(maxBytes), Response{}
}

// answer takes the first of the queued answers. It says again if there is none or the batch must be sent first.
func (s *Stream) answer(maxBytes int) (act, Response) {
	for s.answers.len() > 0 {
		if a := s.answers.front(); a.progress {
			if !s.batch.done() {
				return again, Response{}
			}
			if s.level(a.response.Revision, maxBytes) {
				return convey, Response{}
			}
			s.barrier = -1
			s.asked--
		}
		a := s.popAnswer()
		if a.progress && s.lagging > 0 {
			continue // a watcher fell behind since: the client hears nothing, as if it had asked later
		}
		if a.born != nil && a.born.state == unborn {
			s.lagging++
			s.addBehind(a.born)
		}
		if a.told != nil {
			a.told.telling = false
		}
		return reply, a.response
	}
	return again, Response{}
}

func (s *Stream) popAnswer() answer {
	a := s.answers.pop()
	if s.answers.len() == 0 {
		s.answering.Store(false)
	}
	return a
}

// level delivers what the ready cursors have up to revision upTo and nothing beyond, so that for every watcher a
// progress answer stands between the two. It reports whether there is a batch to send; if not, the cursors are level
// or one has fallen behind.
func (s *Stream) level(upTo kv.Revision, maxBytes int) bool {
	if s.barrier < 0 {
		s.barrier = s.ready.len()
	}
	for s.barrier > 0 && s.lagging == 0 {
		c := s.ready.pop()
		s.barrier--
		switch {
		case c.state == closed:
		case c.next.Main > upTo:
			s.ready.push(c)
		case s.pull(c, upTo, maxBytes):
			return true
		}
	}
	return false
}

// choose takes the next cursor in hand. Those that are ready and those that are behind take turns, so that neither
// keeps the other waiting.
func (s *Stream) choose(maxBytes int) act {
	for s.ready.len()+len(s.behind) > 0 {
		s.turn = !s.turn
		if s.ready.len() > 0 && (s.turn || len(s.behind) == 0) {
			c := s.ready.pop()
			if c.state != closed && s.pull(c, s.hub.head, maxBytes) {
				return convey
			}
			continue
		}
		if c := s.takeBehind(); c.state != closed {
			return s.approach(c)
		}
	}
	s.asleep = true
	return rest
}

// takeBehind takes the cursor furthest behind: it meets the others on its way, so that a block once read serves them
// all. By turns it takes the furthest of those that are near the head, so that these need not wait for the others.
func (s *Stream) takeBehind() *cursor {
	s.near = !s.near
	if s.near {
		at := kv.Rev{Main: s.hub.head - nearRevisions}
		if i := s.behind.find(at); i < len(s.behind) {
			return s.behind.take(i)
		}
	}
	return s.behind.take(0)
}

// nearRevisions is how far behind a cursor counts as near the head: a dozen blocks of small events or so, which
// stay in the cache while many go through them.
const nearRevisions = 4096

// pull fills the batch with hits of a ready cursor up to revision upTo; it has one, or none at all. It reports false
// if what the cursor needs is not in the log; the cursor is behind then.
func (s *Stream) pull(c *cursor, upTo kv.Revision, maxBytes int) bool {
	g := c.group
	if c.pos < g.base || g.hits[c.pos-g.base].item == nil {
		s.lag(c)
		return false
	}
	hits := g.hits[c.pos-g.base:]
	n := s.fitting(g, maxBytes, len(hits), func(i int) (*item, bool) {
		return hits[i].item, hits[i].item != nil && hits[i].rev <= upTo
	})
	items := s.scratch[:0]
	for _, x := range hits[:n] {
		items = append(items, x.item)
	}
	s.scratch = items
	c.state, s.hand = inHand, c
	c.pos += uint64(n)
	revision := items[n-1].Rev.Main
	c.next = kv.Rev{Main: revision + 1}
	s.batch = batch{watchers: c.watchers, items: items, revision: revision}
	return true
}

// approach takes a cursor that is behind in hand and chooses where it reads. One that has reached the head is live
// from here on.
func (s *Stream) approach(c *cursor) act {
	h := s.hub
	if c.next.Main > h.head {
		s.hand = nil
		s.meet(c)
		return again
	}
	c.state, s.hand = inHand, c
	watchers := s.source.watchers // if running, c may have none any more
	if !c.running {
		if c.group.fragments() && c.next.Sub > 0 {
			s.part(c)
		}
		watchers = c.watchers
	}
	s.source = source{head: h.head, watchers: watchers, bytes: h.share()}
	switch b := h.log.find(c.next); {
	case b == nil:
		s.source.upTo = h.log.first(h.head) - 1
	case b.bare && c.group.withPrev():
		s.source.upTo = b.next.Main - 1
	case b.large:
		s.source.upTo = b.from.Main
	default:
		s.source.view = h.log.view(b)
	}
	return fetch
}

// meet lets the watchers of a cursor that has delivered everything up to the head follow the log.
func (s *Stream) meet(c *cursor) {
	live := s.live[c.group]
	if live == nil {
		s.lagging--
		s.enliven(c)
		c.group.rest(c)
		return
	}
	for _, w := range c.watchers {
		w.from = max(w.from, s.hub.head+1)
		live.add(w)
	}
	c.watchers = nil
	s.discard(c)
}

// part leaves c one watcher and gives each of the others a cursor of its own: the fragments of a revision that is
// sent as it is read must follow each other, watcher by watcher.
func (s *Stream) part(c *cursor) {
	others := c.watchers[1:]
	c.watchers = c.watchers[:1:1]
	for _, w := range others {
		other := s.newCursor(c.group)
		c.group.cursors++
		other.next, other.held = c.next, c.held[:len(c.held):len(c.held)]
		other.add(w)
		s.lagging++
		s.addBehind(other)
	}
}

// putBack ends the work with the cursor in hand, unless it is amid a revision sent in fragments.
func (s *Stream) putBack() {
	c := s.hand
	s.hub.counts.events += s.batch.given
	s.release()
	switch {
	case c == nil:
		return
	case c.state == closed:
	case c.running:
		return
	case len(c.watchers) == 0:
		s.discard(c)
	case c.live:
		s.putBackLive(c)
	default:
		s.addBehind(c)
	}
	s.hand, s.source = nil, source{}
}

func (s *Stream) putBackLive(c *cursor) {
	g := c.group
	switch {
	case c.pos == g.end():
		g.rest(c)
		g.leave()
		return
	case c.pos >= g.base:
		c.next = kv.Rev{Main: g.hits[c.pos-g.base].rev}
	}
	c.state = ready
	if s.barrier < 0 {
		s.ready.push(c)
		return
	}
	s.ready.unpop(c) // it may have more to deliver before the progress answer
	s.barrier++
}

// release drops the batch and what it kept from being freed.
func (s *Stream) release() {
	clear(s.scratch)
	s.scratch = s.scratch[:0]
	if cap(s.scratch) > revisionsMax {
		s.scratch = nil
	}
	s.batch = batch{}
}

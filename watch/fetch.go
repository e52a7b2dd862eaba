package watch

import "holdfast/kv"

// revisionsMax bounds the revisions in one answer, as etcd does when a watcher catches up.
const revisionsMax = 1000

// source is where the cursor in hand reads: a view of the log, or the history up to a revision.
type source struct {
	view view
	upTo kv.Revision // 0 if there is a view
	head kv.Revision // the head when the source was chosen
	// watchers are the cursor's at that time.
	watchers []*watcher
	bytes    int // bound of what is read and of what is sent
}

// fetch moves the cursor in hand, which is behind, over one block and fills the batch with what it found there. It
// runs without the lock.
func (s *Stream) fetch(maxBytes int) error {
	c := s.hand
	v := s.source.view
	maxBytes = min(maxBytes, s.source.bytes)
	if s.source.upTo > 0 {
		b, err := s.hub.history.read(c.next, s.source.upTo, min(blockBytes, s.source.bytes), c.group.withPrev())
		if err != nil {
			return s.missed(c, err)
		}
		v = view{items: b.items, next: b.next, sealed: b}
	}
	found := append(c.held, v.match(c.group, c.next)...)
	c.held = nil
	if whole := wholeItems(found, v.next); whole > 0 {
		s.fillWhole(c, found, whole, v.next, maxBytes)
	} else {
		s.fillPart(c, found, v.next)
	}
	return nil
}

// wholeItems counts the items whose revision is complete if everything before next has been read.
func wholeItems(found []*item, next kv.Rev) int {
	n := len(found)
	for next.Sub > 0 && n > 0 && found[n-1].Rev.Main == next.Main {
		n--
	}
	return n
}

// fillWhole fills the batch with complete revisions; the first whole items of found are of such.
func (s *Stream) fillWhole(c *cursor, found []*item, whole int, next kv.Rev, maxBytes int) {
	n := s.fitting(c.group, maxBytes, whole, func(i int) (*item, bool) {
		// What ends an answer in fragments holds the rest of its revision and no more.
		return found[i], !c.running || found[i].Rev.Main == found[0].Rev.Main
	})
	if n < whole {
		c.next = kv.Rev{Main: found[n].Rev.Main}
	} else {
		c.next, c.held = next, found[whole:]
	}
	revision := min(s.source.head, c.next.Main-1)
	if c.running {
		revision = found[0].Rev.Main
	}
	s.batch = batch{watchers: s.source.watchers, items: found[:n:n], revision: revision, amid: c.running}
	c.running = false
}

// fillPart deals with a block that ends within a revision and began there at the latest: what it holds is kept until
// the revision is complete, or sent in fragments where the watcher takes them.
func (s *Stream) fillPart(c *cursor, found []*item, next kv.Rev) {
	c.next = next
	size := answerBytes
	for _, it := range found {
		size += it.size(c.group.withPrev())
	}
	if !c.group.fragments() || len(s.source.watchers) > 1 || size < s.hub.fragmentBytes {
		c.held = found
		return
	}
	s.batch = batch{watchers: s.source.watchers, items: found, revision: next.Main, amid: c.running, open: true}
}

// fitting counts the items that go into one batch: whole revisions up to maxBytes in all, at least one. get gives the
// item at a place below n, and whether it may be taken.
func (s *Stream) fitting(g *group, maxBytes, n int, get func(int) (*item, bool)) int {
	if g.fragments() {
		maxBytes = min(maxBytes, s.hub.fragmentBytes-answerBytes-1)
	}
	fit, size := 0, 0
	for revisions := 0; fit < n && revisions < revisionsMax; revisions++ {
		first, ok := get(fit)
		if !ok {
			break
		}
		end := fit
		for ; end < n; end++ {
			it, ok := get(end)
			if !ok || it.Rev.Main != first.Rev.Main {
				break
			}
			size += it.size(g.withPrev())
		}
		if fit > 0 && size > maxBytes {
			break
		}
		fit = end
	}
	return fit
}

// missed deals with a failed read. If the place has been compacted, the watchers that needed it are told so and
// end; the others, whose start lies beyond, go on from there.
func (s *Stream) missed(c *cursor, err error) error {
	compacted := s.hub.history.history.Compacted()
	if c.next.Main >= compacted {
		return err
	}
	s.hub.mu.Lock()
	defer s.hub.unlock()
	if c.state == closed {
		return nil
	}
	if c.running {
		// Only an end of the watch lets the client drop the fragments it has; it must come next.
		s.answers.unpop(s.expired(s.source.watchers[0], compacted))
		s.answering.Store(true)
	}
	for _, w := range c.watchers {
		if w.from < compacted {
			s.queue(s.expired(w, compacted))
		}
	}
	c.next, c.held, c.running = kv.Rev{Main: compacted}, nil, false
	return nil
}

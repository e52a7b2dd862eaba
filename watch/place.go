package watch

// The methods below move the cursors of a stream between the places where they wait. They need Hub.mu.

func (s *Stream) addReady(c *cursor) {
	s.ready.push(c)
	s.rouse()
}

func (s *Stream) addBehind(c *cursor) {
	c.state = behind
	s.behind.add(c)
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

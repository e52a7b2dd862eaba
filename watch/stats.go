package watch

import "holdfast/kv"

// counters are guarded by Hub.mu.
type counters struct {
	events  int64
	matches int64
}

// Stats is what a hub holds and has done.
type Stats struct {
	Streams, Watchers, Groups int
	// SlowWatchers are those that the log does not serve at the moment; LaggingWatchers those that have anything
	// to receive.
	SlowWatchers, LaggingWatchers int
	// Pending counts events in the log that wait to be pulled, once for each watcher.
	Pending int64
	// Lag is how many revisions the watcher furthest behind is behind.
	Lag kv.Revision

	Head kv.Revision
	// LogFirst is the oldest revision in the log, Head+1 if it is empty.
	LogFirst kv.Revision
	LogBytes int

	// Since the start: events handed to watchers, matches of an event with a group, encodings made, and reads of the
	// history.
	Events, Matches, Encodings, HistoryReads int64
}

// Stats gives the numbers as they are. It looks at every cursor that has something to deliver.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := Stats{
		Streams:      len(h.streams),
		Groups:       len(h.groups),
		Head:         h.head,
		LogFirst:     h.log.first(h.head),
		LogBytes:     h.log.bytes,
		Events:       h.counts.events,
		Matches:      h.counts.matches,
		Encodings:    h.encodings.Load(),
		HistoryReads: h.history.reads.Load(),
	}
	for _, s := range h.streams {
		st.Watchers += s.alive
		for _, c := range s.cursors {
			st.add(c)
		}
	}
	return st
}

func (st *Stats) add(c *cursor) {
	n := len(c.watchers)
	if n == 0 || c.state == idle {
		return
	}
	st.LaggingWatchers += n
	if c.state == inHand {
		return // its place is in flux
	}
	st.Lag = max(st.Lag, st.Head+1-c.next.Main)
	if !c.live || c.pos < c.group.base {
		st.SlowWatchers += n
		return
	}
	st.Pending += int64(n) * int64(c.group.end()-c.pos)
}

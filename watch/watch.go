// Package watch tells watchers what happened: one shared log of events in memory, in which every watcher is a cursor.
//
// The applier appends what each revision did. An event is matched once per group of watchers (those with the same
// range and options), encoded once when the first of them needs it, and handed to all as the same bytes. A stream's
// own goroutine pulls its answers; what it does not pull stays where it is, in the log. A watcher that starts in the
// past, or whose place the log has forgotten, reads the history instead, block by block, until it reaches the log
// again. So memory follows the size of the log, not watchers times events, and a slow watcher costs only itself. See
// DESIGN.md.
//
//	Shape    Hub: the log, the groups and their index. Stream: the watchers of one client stream and their cursors.
//	Units    revisions; sizes in bytes; it reads no clock, intervals are calls of Stream.Tick
//	Errors   only those of the history; a client's mistakes are answers on its stream, as in etcd
//	Source   etcd v3 API, service Watch
//
// It starts no goroutine. One mutex, Hub.mu, guards everything that streams and the applier share.
package watch

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"holdfast/kv"
)

// History is where events are read that the log does not hold.
type History interface {
	// Events gives the events from the place from on up to and including revision upTo, in order, all of those in
	// [from, next). It stops after maxBytes but gives at least one event, and may stop within a revision. It fails
	// if from lies before the compacted revision. With withPrev, events carry the KeyValue before them. The events
	// must stay as they are.
	Events(from kv.Rev, upTo kv.Revision, maxBytes int, withPrev bool) (events []kv.Event, next kv.Rev, err error)
	// Compacted is the revision below which the history is gone.
	Compacted() kv.Revision
}

// Config is what a Hub needs.
type Config struct {
	// LogBytes bounds the memory of the log: the events, one encoding of each form asked for at the time, and the
	// references of groups. It takes an eighth of it while all have been told what is in it. 0 keeps no log; every event is then
	// read from the history.
	LogBytes int
	// FragmentBytes is the size of an answer from which it is split for watchers that asked for it: etcd's maximal
	// request size plus 512 KiB.
	FragmentBytes int
	// History must answer for every revision that has been appended.
	History History
}

// Hub holds the log and the groups of all streams.
type Hub struct {
	fragmentBytes int
	history       *blockCache
	encodings     atomic.Int64
	withPrev      atomic.Int64 // groups that want previous KeyValues; changed under mu

	mu      sync.Mutex // guards the fields below and those of streams, groups and cursors that say so; no I/O under it
	head    kv.Revision
	log     eventLog
	index   index
	groups  []*group
	streams []*Stream
	looked  int       // eventLog.begun when it was last looked at who waits for what
	matched []*group  // scratch of Append
	rousing []*Stream // streams to wake once mu is released
	counts  counters
}

// toldShare is the part of the log that is kept although nobody waits for it: what a watcher needs that comes back after its connection
// broke. Its events cost more memory than they have bytes, and the garbage collector looks at each of them.
const toldShare = 8

// New makes a hub at revision 1, that of an empty store.
func New(cfg Config) *Hub {
	return &Hub{
		fragmentBytes: cfg.FragmentBytes,
		history:       newBlockCache(cfg.History),
		head:          1,
		log:           eventLog{limit: cfg.LogBytes},
		index:         index{keys: make(map[string]*slot)},
	}
}

// Head is the revision up to which events have been appended.
func (h *Hub) Head() kv.Revision {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.head
}

// WantsPrev tells whether somebody watches who is told what was there before a change. Events that are appended without it are
// read from the history for those who come later.
func (h *Hub) WantsPrev() bool { return h.withPrev.Load() > 0 }

// SetHead moves the head to a revision whose events were not appended: that of the store at start, or of a snapshot
// that replaced the store. Watchers read what lies between from the history, which must have it by now.
func (h *Hub) SetHead(rev kv.Revision) {
	h.mu.Lock()
	defer h.unlock()
	if rev < h.head {
		panic(fmt.Sprintf("watch: head set to revision %d, was at %d", rev, h.head))
	}
	if rev == h.head {
		return
	}
	h.log.clear()
	for _, g := range h.groups {
		if g.live() {
			g.push(hit{rev: h.head + 1})
		}
	}
	h.head = rev
}

// Append adds the next revisions to the log and wakes the streams that have a watcher for them. It is called once the
// store has published them, by one goroutine, and waits for no stream: its cost is that of matching each event
// against the groups, and of one step for each cursor that had nothing to do before.
func (h *Hub) Append(changes []kv.Change) {
	h.mu.Lock()
	defer h.unlock()
	for i := range changes {
		h.add(&changes[i])
	}
	h.trim()
}

// trim keeps the log within its size: that for what somebody waits for, and a share of it for the rest. Who waits for what is looked at
// once for each block.
func (h *Hub) trim() {
	l := &h.log
	l.trim(l.limit, h.head+1)
	if kept := l.limit / toldShare; l.bytes > kept && (l.begun != h.looked || len(h.groups) == 0) {
		h.looked = l.begun
		l.trim(kept, h.awaited())
	}
}

// awaited is the first revision that a watcher which follows the log has still to pull, the one after the head if there is none. It looks at
// every cursor.
func (h *Hub) awaited() kv.Revision {
	first := h.head + 1
	for _, s := range h.streams {
		for _, c := range s.cursors {
			if rev, waits := c.awaits(); waits {
				first = min(first, rev)
			}
		}
	}
	return first
}

func (h *Hub) add(c *kv.Change) {
	if c.Revision != h.head+1 {
		panic(fmt.Sprintf("watch: revision %d appended at head %d", c.Revision, h.head))
	}
	if c.Large || rawBytes(c.Events) > h.log.limit {
		h.addLarge(c.Revision)
	} else {
		h.addEvents(c)
	}
	h.head = c.Revision
}

// addLarge sends every live cursor to the history: the log does not know whom the revision concerns.
func (h *Hub) addLarge(rev kv.Revision) {
	h.log.addLarge(rev)
	for _, g := range h.groups {
		if g.live() {
			h.hit(g, hit{rev: rev})
		}
	}
}

func (h *Hub) addEvents(c *kv.Change) {
	b := h.log.growing(c.Revision)
	items := make([]item, len(c.Events))
	bare := slices.ContainsFunc(c.Events, func(e kv.Event) bool { return e.NoPrev })
	b.bare = b.bare || bare
	for i := range items {
		it := &items[i]
		it.init(c.Events[i])
		b.items = append(b.items, it)
		h.log.charge(it.bytes())
		h.match(it, bare)
	}
	h.log.finish(c.Revision)
}

// match finds the groups that have a live cursor for it and gives them a hit. bare says that events of its revision lack what was
// there before: whoever wants that reads the whole revision from the history.
func (h *Hub) match(it *item, bare bool) {
	h.matched = h.index.match(h.matched[:0], it.Key)
	var wanted, full bool
	for _, g := range h.matched {
		if !g.live() || !g.wants(it) {
			continue
		}
		h.counts.matches++
		if bare && g.withPrev() {
			h.hit(g, hit{rev: it.Rev.Main})
			continue
		}
		h.hit(g, hit{rev: it.Rev.Main, item: it})
		if it.form(g.withPrev()) == &it.full {
			full = true
		} else {
			wanted = true
		}
	}
	clear(h.matched)
	if wanted {
		h.log.charge(it.bare.size)
	}
	if full {
		h.log.charge(it.full.size)
	}
}

// hit gives g a hit on the last block of the log.
func (h *Hub) hit(g *group, x hit) {
	g.push(x)
	b := h.log.blocks[len(h.log.blocks)-1]
	b.bytes += hitBytes
	h.log.bytes += hitBytes
	if g.listed != b {
		g.listed = b
		b.groups = append(b.groups, g)
	}
}

func rawBytes(events []kv.Event) int {
	n := 0
	for i := range events {
		n += itemBytes + len(events[i].KV) + len(events[i].Prev)
	}
	return n
}

// join gives the group of a range and options with one more cursor in it, making it if there is none.
func (h *Hub) join(span kv.KeyRange, opts options) *group {
	g := h.index.find(span, opts)
	if g == nil {
		g = &group{span: span, opts: opts, at: len(h.groups)}
		h.groups = append(h.groups, g)
		h.index.add(g)
		if g.withPrev() {
			h.withPrev.Add(1)
		}
	}
	g.cursors++
	return g
}

// quit takes one cursor from g, and g from the hub with its last.
func (h *Hub) quit(g *group) {
	g.cursors--
	if g.cursors > 0 {
		return
	}
	h.index.remove(g)
	if g.withPrev() {
		h.withPrev.Add(-1)
	}
	last := h.groups[len(h.groups)-1]
	h.groups[g.at], last.at = last, g.at
	h.groups[len(h.groups)-1] = nil
	h.groups = h.groups[:len(h.groups)-1]
}

// Bounds of what a stream has in hand until its client takes it: all of them share handsBytesMax, which is not kept to if that leaves a stream less
// than handBytesMin, and one event is given at least. A stream whose client does not read holds what it has in hand for good, each somewhere else
// in the history perhaps.
const (
	handsBytesMax = 64 << 20
	handBytesMin  = 16 << 10
)

// share is how many bytes of events a stream may have in hand. It needs mu.
func (h *Hub) share() int { return max(handBytesMin, handsBytesMax/max(1, len(h.streams))) }

// unlock releases mu and wakes the streams that were given something under it, neighbours one after the other.
func (h *Hub) unlock() {
	var few [8]*Stream // spares an allocation where few streams are woken
	rousing := append(few[:0], h.rousing...)
	clear(h.rousing)
	h.rousing = h.rousing[:0]
	slices.SortFunc(rousing, func(a, b *Stream) int { return cmp.Compare(a.beside, b.beside) })
	h.mu.Unlock()
	for _, s := range rousing {
		s.wake()
	}
}

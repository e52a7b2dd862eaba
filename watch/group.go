package watch

import "holdfast/kv"

// options are what besides the range decides which bytes a watcher receives.
type options uint8

const (
	optPrev options = 1 << iota
	optNoPut
	optNoDelete
	optFragment
)

// group stands for all watchers of one range with the same options. It is matched once per event however many they
// are, and keeps what it matched until its last cursor has gone by or the log forgets it.
type group struct {
	span kv.KeyRange // owns its bytes
	opts options
	at   int // place in Hub.groups

	// cursors counts those of the group in any state; the group is gone with the last.
	cursors int
	// idle are the live cursors that have delivered everything; only they are touched when an event comes.
	idle []*cursor
	// busy counts the live cursors that are not idle.
	busy int

	// hits are the matches that some live cursor may still need; hits[0] has the number base.
	hits []hit
	base uint64
	// listed is the last block of the log that lists the group.
	listed *block
}

// hit is one matched event. A hit without item says that from rev on the log does not have what happened: the
// cursor must read the history.
type hit struct {
	rev  kv.Revision
	item *item
}

// hitBytes is charged for each hit.
const hitBytes = 16

// hitsKeep is the capacity an empty list of hits may keep for reuse.
const hitsKeep = 64

func (g *group) withPrev() bool  { return g.opts&optPrev != 0 }
func (g *group) fragments() bool { return g.opts&optFragment != 0 }

// wants tells whether the filters let it pass.
func (g *group) wants(it *item) bool {
	if it.Type == kv.EventPut {
		return g.opts&optNoPut == 0
	}
	return g.opts&optNoDelete == 0
}

// end is the number of the next hit.
func (g *group) end() uint64 { return g.base + uint64(len(g.hits)) }

// live tells whether a cursor rests on the hits.
func (g *group) live() bool { return len(g.idle) > 0 || g.busy > 0 }

// push adds a hit and makes the idle cursors ready. There must be a live cursor.
func (g *group) push(h hit) {
	for _, c := range g.idle {
		c.state, c.pos, c.next = ready, g.end(), kv.Rev{Main: h.rev}
		c.stream.addReady(c)
	}
	g.busy += len(g.idle)
	clear(g.idle)
	g.idle = g.idle[:0]
	g.hits = append(g.hits, h)
}

// forget drops the hits before rev.
func (g *group) forget(rev kv.Revision) {
	n := 0
	for n < len(g.hits) && g.hits[n].rev < rev {
		n++
	}
	g.drop(n)
}

func (g *group) drop(n int) {
	clear(g.hits[:n])
	g.base += uint64(n)
	switch {
	case n < len(g.hits):
		g.hits = g.hits[n:]
	case cap(g.hits) <= hitsKeep:
		g.hits = g.hits[:0]
	default:
		g.hits = nil
	}
}

// rest makes a live cursor idle.
func (g *group) rest(c *cursor) {
	c.state, c.idleAt = idle, len(g.idle)
	g.idle = append(g.idle, c)
}

// unrest takes c off the idle cursors.
func (g *group) unrest(c *cursor) {
	last := g.idle[len(g.idle)-1]
	g.idle[c.idleAt], last.idleAt = last, c.idleAt
	g.idle[len(g.idle)-1] = nil
	g.idle = g.idle[:len(g.idle)-1]
}

// leave ends the part of a busy cursor in the hits. Once no one is busy, nobody needs them.
func (g *group) leave() {
	g.busy--
	if g.busy == 0 {
		g.drop(len(g.hits))
	}
}

package census

import (
	"fmt"

	"holdfast/kv"
)

// Edit makes the next version out of one:
//
//	e := version.Edit(finished)
//	e.Create(key); e.Delete(key, revision)   // in any order and number
//	next, err := e.Finish(rows, walk)
//
// It may be dropped at any time. Counting in it sees all changes so far.
type Edit struct {
	root  *node
	stamp uint64
	sweep sweep
	// finished is the revision up to which a compaction has removed rows.
	finished kv.Revision
	here     here
	log      log
	writer   writer
}

// here is the block of the last change, and what has not been put into the tree: changes often come by neighbours.
type here struct {
	path       path
	start, end string
	last       bool
	known      bool
	born, gone int32
	died       kv.Revision
}

// Edit begins a change of v. finished is the revision of the last compaction that is complete: no row of a key that was
// deleted before it is left.
func (v *Version) Edit(finished kv.Revision) *Edit {
	return &Edit{
		root: v.root, stamp: v.stamp + 1, sweep: v.sweep, finished: finished,
		log: v.log, writer: writer{seq: v.seq + 1},
	}
}

// Create counts key, which did not live.
func (e *Edit) Create(key []byte) {
	e.stand(key)
	e.here.born++
}

// Delete counts out key, which lived and is deleted at a revision.
func (e *Edit) Delete(key []byte, at kv.Revision) {
	e.stand(key)
	e.here.gone++
	e.here.died = at
}

// Count is Version.Count for the edit as it is; scan must see all changes so far.
func (e *Edit) Count(lo, hi []byte, scan Scan) (int64, error) {
	e.settle()
	return e.root.count(lo, hi, scan)
}

// stand goes to the block of key.
func (e *Edit) stand(key []byte) {
	h := &e.here
	// The end goes first: where keys ascend it is what most often tells that key is in another block.
	if h.known && (h.last || string(key) < h.end) && string(key) >= h.start {
		return
	}
	e.settle()
	h.start, h.end, h.last = e.root.descend(key, &h.path)
	h.known = true
}

// settle puts into the tree what was counted in the present block.
func (e *Edit) settle() {
	h := &e.here
	if h.born == 0 && h.gone == 0 {
		return
	}
	e.root = e.root.own(e.stamp)
	n, leaf := e.root, h.path.depth-1
	for _, i := range h.path.at[:leaf] {
		n.sums[i] += int64(h.born - h.gone)
		n.kids[i] = n.kids[i].own(e.stamp)
		n = n.kids[i]
	}
	i := h.path.at[leaf]
	b := n.blocks[i].settled(e.finished)
	b.live += h.born - h.gone
	b.dead += h.gone
	b.died = max(b.died, h.died)
	n.blocks[i] = b
	n.dirty |= 1 << i
	h.born, h.gone = 0, 0
}

// Walk calls fn for every key in [lo, hi) that has a row, in order, and tells whether it lives, until fn returns false.
// A nil hi is no end.
type Walk func(lo, hi []byte, fn func(key []byte, lives bool) bool) error

// Rows takes the rows of the census. A storage.Batch is one.
type Rows interface {
	Set(key, value []byte)
	Delete(key []byte)
}

// Finish brings the blocks that changed to their size, writes their rows and returns the version that the edit made.
// walk must see all changes. The edit is over then.
func (e *Edit) Finish(rows Rows, walk Walk) (*Version, error) {
	e.settle()
	var ailing []string
	w := &e.writer
	e.root.eachDirty(e.stamp, func(bound string, b *block) {
		b.seq = w.seq
		w.logged = append(w.logged, cut{bound, *b})
		if size := b.weight(e.finished); size > blockMax || size < blockLight {
			ailing = append(ailing, bound)
		}
	})
	for _, bound := range ailing {
		if err := e.mend(bound, walk); err != nil {
			return nil, err
		}
	}
	if err := e.sweepSome(walk); err != nil {
		return nil, err
	}
	e.write(rows)
	return e.Freeze(), nil
}

// Freeze ends the edit without minding the size of blocks and without rows: for a version that is not going to be
// the base of more than a few others.
func (e *Edit) Freeze() *Version {
	e.settle()
	return &Version{root: e.root, stamp: e.stamp, sweep: e.sweep, log: e.log, seq: e.writer.seq}
}

// mend brings the block at bound to its size; it may be gone.
func (e *Edit) mend(bound string, walk Walk) error {
	p := e.root.locate([]byte(bound))
	if p.start != bound {
		return nil
	}
	switch w := p.weight(e.finished); {
	case w > blockMax:
		return e.split(p, walk)
	case w < blockLight:
		e.lean(p)
	}
	return nil
}

// lean joins the light block p with a neighbour that has room.
func (e *Edit) lean(p place) {
	fits := func(q place) bool { return p.weight(e.finished)+q.weight(e.finished) <= joinMax }
	if !p.last {
		if q := e.root.locate([]byte(p.end)); fits(q) {
			e.join(p, q)
			return
		}
	}
	if p.start != "" {
		if q := e.root.locateBefore(p.start); fits(q) {
			e.join(q, p)
		}
	}
}

// join makes one block of two neighbours.
func (e *Edit) join(a, b place) {
	e.root = e.root.changeRoot(e.stamp, []byte(b.start), func(leaf *node, i int) { leaf.remove(i) })
	e.put(a.start, a.settled(e.finished).plus(b.settled(e.finished)))
	e.writer.changed = append(e.writer.changed, b.start)
}

// put replaces the block at bound.
func (e *Edit) put(bound string, b block) {
	b.seq = e.writer.seq
	e.root = e.root.changeRoot(e.stamp, []byte(bound), func(leaf *node, i int) { leaf.blocks[i] = b })
	e.writer.changed = append(e.writer.changed, bound)
}

// cut is a piece of a block that is being split.
type cut struct {
	bound string
	block
}

// split walks over the block p and cuts it into pieces of the same size, as far as there are keys: dead ones may have
// been counted that are not there.
func (e *Edit) split(p place, walk Walk) error {
	w := p.weight(e.finished)
	parts := (w + blockTarget - 1) / blockTarget
	cuts := []cut{{bound: p.start, block: block{died: p.died}}}
	rest := p.settled(e.finished)
	whole := true // the walk reached the end of the block
	err := walk([]byte(p.start), p.endBytes(), func(key []byte, lives bool) bool {
		c := &cuts[len(cuts)-1]
		if int(c.live+c.dead) == w/parts {
			rest.live, rest.dead = rest.live-c.live, rest.dead-c.dead
			cuts = append(cuts, cut{bound: string(key), block: block{died: p.died}})
			c = &cuts[len(cuts)-1]
			if len(cuts) == parts {
				whole = false
				return false
			}
		}
		if lives {
			c.live++
		} else {
			c.dead++
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("split a block of %d keys at %q: %w", w, p.start, err)
	}
	c := &cuts[len(cuts)-1]
	if whole && c.live != rest.live || rest.live < 0 {
		panic(fmt.Sprintf("census: block at %q counts %s, but a walk found %d more in its last piece, which has %d of them",
			p.start, p.block, c.live, rest.live))
	}
	if !whole {
		c.block = rest
		c.dead = max(0, c.dead)
	}
	e.put(p.start, cuts[0].block)
	for _, c := range cuts[1:] {
		c.seq = e.writer.seq
		e.root = e.root.changeRoot(e.stamp, []byte(c.bound), func(leaf *node, i int) { leaf.insert(i+1, c.bound, c.block) })
		e.writer.changed = append(e.writer.changed, c.bound)
	}
	return nil
}

// sweep is a tour of all blocks after a compaction, which makes light what was full of dead keys.
type sweep struct {
	finished kv.Revision // the compaction that the last tour was begun for
	next     string      // where it goes on
	on       bool
}

// sweepBlocks is how many blocks an edit looks at on the tour: some microseconds, and ten million keys take a few
// thousand edits.
const sweepBlocks = 16

func (e *Edit) sweepSome(walk Walk) error {
	s := &e.sweep
	if !s.on {
		if e.finished <= s.finished {
			return nil
		}
		*s = sweep{finished: e.finished, on: true}
	}
	for range sweepBlocks {
		p := e.root.locate([]byte(s.next))
		if p.weight(e.finished) < blockLight {
			changed := len(e.writer.changed)
			if err := e.mend(p.start, walk); err != nil {
				return err
			}
			if len(e.writer.changed) > changed {
				// Something joined; the result may have room for more.
				continue
			}
		}
		if p.last {
			s.on = false
			return nil
		}
		s.next = p.end
	}
	return nil
}

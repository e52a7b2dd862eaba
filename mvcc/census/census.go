// Package census counts the keys that live in any range of keys without walking over them.
//
// Keys are counted in blocks of neighbours. The blocks hang in a tree that carries the sums of its subtrees, so a count
// is a walk down the tree for each end of the range, and a look at the keys of the two blocks in which it ends. Keys
// themselves are not kept here, only the first one that a block may hold.
//
// A Version is immutable and belongs to one revision of the store; readers share it without locks. An Edit makes the
// next one from it and copies only the nodes that it changes.
//
//	Shape    table "census": 'b' · first key of a block -> its counts (rows.go)
//	                         'l' · sequence number (8)  -> newer counts of some blocks (log.go)
//	Units    keys
//	Errors   failures of the caller's scan, as they are; a Load that finds no sense in a row
//	Source   copy-on-write B-trees; order-statistic trees for the sums
//
// It reads no clock, starts no goroutine and draws no random number. DESIGN.md of this folder has the story.
package census

import (
	"fmt"

	"holdfast/kv"
)

// A block holds up to blockMax keys present: more and it is split, less than blockLight and it joins a neighbour if
// both together have no more than joinMax, which leaves room before the next split. Pieces of at most blockTarget keys remain, three
// where one key is too many: most of what a split costs is to find the block in the database, and with three pieces a third fewer are split than with
// two of as many on average. What they trade: an end of a count looks at half a block on average (0.15 µs a key, BenchmarkCount),
// and a block takes some 80 bytes of memory and its first key.
const (
	blockMax    = 480
	blockTarget = blockMax * 5 / 12
	joinMax     = blockMax / 2
	blockLight  = blockMax / 4
)

// block is how many keys there are between its first key and the first key of the next block.
type block struct {
	live int32
	// dead is an upper bound for the deleted keys whose rows a scan still meets. They count for the size of the block,
	// not for its sum. Keys that died, were created and died again count twice until somebody looks.
	dead int32
	// died is the newest revision at which a key of the block died: once a compaction above it is complete, the rows of
	// all dead keys are gone.
	died kv.Revision
	// seq is the sequence number of the edit that wrote the block last.
	seq uint64
}

// weight is the size of the block as a scan meets it, after the compaction at finished.
func (b block) weight(finished kv.Revision) int { return int(b.live) + int(b.settled(finished).dead) }

// settled is the block without the dead keys that the compaction at finished removed.
func (b block) settled(finished kv.Revision) block {
	if b.died < finished {
		b.dead = 0
	}
	return b
}

func (b block) plus(c block) block {
	return block{live: b.live + c.live, dead: b.dead + c.dead, died: max(b.died, c.died)}
}

// Version is the census at one revision. It is never modified.
type Version struct {
	root *node
	// stamp tells apart who made a node. Invariant: no node of the version has a higher one.
	stamp uint64
	sweep sweep
	log   log
	seq   uint64 // that of the edit that made the version
}

// Empty is the census of a store without keys.
func Empty() *Version {
	return &Version{root: &node{bounds: boundsOf([]string{""}), blocks: []block{{}}}}
}

// Scan counts, key by key, the keys that live in [lo, hi); a nil hi is no end.
type Scan func(lo, hi []byte) (int64, error)

// Keys is the number of keys that live.
func (v *Version) Keys() int64 { return v.root.total() }

// Blocks is how many blocks the keys are counted in. It looks at every leaf of the tree.
func (v *Version) Blocks() int { return v.root.countBlocks() }

func (n *node) countBlocks() int {
	blocks := len(n.blocks)
	for _, kid := range n.kids {
		blocks += kid.countBlocks()
	}
	return blocks
}

// Count is the number of keys that live in [lo, hi); a nil hi is no end. It calls scan at most twice, for less than a
// block each time; scan must look at the revision of the version.
func (v *Version) Count(lo, hi []byte, scan Scan) (int64, error) { return v.root.count(lo, hi, scan) }

// Estimate is a number that Count does not exceed: that of all blocks that the range touches.
func (v *Version) Estimate(lo, hi []byte) int64 {
	from := v.root.locate(lo)
	if hi == nil {
		return v.Keys() - from.before
	}
	to := v.root.locate(hi)
	return max(0, to.before+int64(to.live)-from.before)
}

func (n *node) count(lo, hi []byte, scan Scan) (int64, error) {
	if hi != nil && string(lo) >= string(hi) {
		return 0, nil
	}
	from := n.locate(lo)
	to := place{before: n.total()}
	if hi != nil {
		if to = n.locate(hi); to.start == from.start {
			if to.live == 0 {
				return 0, nil
			}
			return scan(lo, hi)
		}
	}
	// The blocks from that of lo up to that of hi, without what lies before lo and with what lies before hi.
	sum := to.before - from.before
	if !from.beginsAt(lo) && from.live > 0 {
		n, err := scan(lo, from.endBytes())
		if err != nil {
			return 0, err
		}
		sum += n - int64(from.live)
	}
	if hi != nil && to.start != string(hi) && to.live > 0 {
		n, err := scan([]byte(to.start), hi)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// place is a block and where it stands.
type place struct {
	block
	start, end string
	last       bool  // there is no end
	before     int64 // keys that live before start
}

// beginsAt tells whether no key of the block lies before key. The empty key is none, so all begins at "\x00".
func (p place) beginsAt(key []byte) bool {
	return p.start == string(key) || p.start == "" && string(key) == "\x00"
}

func (p place) endBytes() []byte {
	if p.last {
		return nil
	}
	return []byte(p.end)
}

func (b block) String() string {
	return fmt.Sprintf("%d live, %d dead until %s", b.live, b.dead, b.died)
}

package mvcc

import (
	"bytes"
	"math"
	"slices"

	"holdfast/kv"
)

// overlay is what the open batch of a run changed, in key order, every version of it: it answers before the cache and
// the database do, exactly, for points and ranges, at the newest revision and at those of earlier commands of the run.
//
// Keys are few enough (the run is bounded) for a sorted slice: an insertion moves pointers, and the keys of a range
// deletion come in order and go to the end. A deletion of very many keys is one span instead.
type overlay struct {
	chains []*chain // in key order
	spans  []span
}

// chain is the history of one key within the run, oldest first. A nil row is a deletion.
type chain struct {
	key      []byte
	versions []version
	// updated says that the key lived before the run.
	updated bool
	// now is how the key stands after the last version.
	now standing
	// first is the room for the only version that most keys get.
	first [1]version
}

type version struct {
	rev kv.Rev
	row []byte
}

// span says that all keys of [lo, hi) that are not in a chain were gone from revision rev on; hi nil is no end.
type span struct {
	lo, hi []byte
	rev    kv.Revision
}

// find returns where key stands, or would stand, among the chains.
func (o *overlay) find(key []byte) (i int, ok bool) {
	// Keys often come in ascending order: look behind the last one first.
	if n := len(o.chains); n == 0 || bytes.Compare(o.chains[n-1].key, key) < 0 {
		return n, false
	}
	return slices.BinarySearchFunc(o.chains, key, func(c *chain, key []byte) int { return bytes.Compare(c.key, key) })
}

// set adds a version, after which the key stands as now says; it keeps key and row, nil for a deletion. lived tells whether the
// version replaces a living one.
func (o *overlay) set(key, row []byte, now standing, lived bool) {
	i, ok := o.find(key)
	if !ok {
		c := &chain{key: key, updated: lived}
		c.versions = c.first[:0]
		o.chains = slices.Insert(o.chains, i, c)
	}
	c := o.chains[i]
	c.versions = append(c.versions, version{now.rev, row})
	c.now = now
}

// stands tells how key stands at the newest revision; known is false if the database has to be asked.
func (o *overlay) stands(key []byte) (s standing, known bool) {
	if i, ok := o.find(key); ok {
		return o.chains[i].now, true
	}
	return standing{}, o.isSpanned(key, math.MaxInt64)
}

// get tells what the overlay knows of key at revision at: known is false if the database has to be asked.
func (o *overlay) get(key []byte, at kv.Revision) (v version, known bool) {
	if len(o.chains) > 0 {
		if i, ok := o.find(key); ok {
			if v, ok := o.chains[i].at(at); ok {
				return v, true
			}
		}
	}
	return version{}, o.isSpanned(key, at)
}

// at returns the newest version of the chain that revision rev sees.
func (c *chain) at(rev kv.Revision) (version, bool) {
	for _, v := range slices.Backward(c.versions) {
		if v.rev.Main <= rev {
			return v, true
		}
	}
	return version{}, false
}

func (o *overlay) isSpanned(key []byte, at kv.Revision) bool {
	for _, s := range o.spans {
		if s.rev <= at && bytes.Compare(s.lo, key) <= 0 && (s.hi == nil || bytes.Compare(key, s.hi) < 0) {
			return true
		}
	}
	return false
}

// within returns the chains with keys in [lo, hi).
func (o *overlay) within(lo, hi []byte) []*chain {
	from, _ := o.find(lo)
	to := len(o.chains)
	if hi != nil {
		to, _ = o.find(hi)
	}
	return o.chains[from:max(from, to)]
}

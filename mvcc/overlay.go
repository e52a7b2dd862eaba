package mvcc

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"math"
	"slices"

	"holdfast/kv"
	"holdfast/mvcc/head"
)

// overlay is what the open batch of a run changed, every version of it: it answers before the cache and
// the database do, exactly, for points and ranges, at the newest revision and at those of earlier commands of the run.
//
// A key is found by its hash. Who asks for keys in their order has those that came since sorted in among the others: most runs
// ask once, at their end. A deletion of very many keys is one span instead.
type overlay struct {
	// seed is that of recent, which takes the hashes of chains for its own.
	seed maphash.Seed
	// chains are in key order up to sorted, then as they came.
	chains []*chain
	sorted int
	// slots are searched by hash, with linear probing. There are none while a look at all chains is as quick. Their number is a power of two.
	slots []*chain
	// room is where the next chains are going to be: they are made by the dozen.
	room  []chain
	spans []span
}

const (
	slotlessMax = 8  // chains
	roomMax     = 64 // chains made at once
)

// chain is the history of one key within the run, oldest first. A nil row is a deletion.
type chain struct {
	hash     uint64
	key      []byte
	versions []version
	// updated says that the key lived before the run, sifted that it never did, as the sieve says.
	updated, sifted bool
	// births is how often the key began to live without the census having been told.
	births int32
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

func (o *overlay) hash(key []byte) uint64 { return maphash.Bytes(o.seed, key) }

// find returns the chain of a key and its hash, nil if there is none.
func (o *overlay) find(hash uint64, key []byte) *chain {
	if o.slots == nil {
		for _, c := range o.chains {
			if c.hash == hash && bytes.Equal(c.key, key) {
				return c
			}
		}
		return nil
	}
	mask := uint64(len(o.slots) - 1)
	for i := hash & mask; o.slots[i] != nil; i = (i + 1) & mask {
		if c := o.slots[i]; c.hash == hash && bytes.Equal(c.key, key) {
			return c
		}
	}
	return nil
}

// add begins the chain of a key that has none, and keeps the key.
func (o *overlay) add(hash uint64, key []byte) *chain {
	if len(o.room) == 0 {
		o.room = make([]chain, min(roomMax, len(o.chains)+1))
	}
	c := &o.room[0]
	o.room = o.room[1:]
	c.hash, c.key, c.versions = hash, key, c.first[:0]
	o.chains = append(o.chains, c)
	switch n := len(o.chains); {
	case n > slotlessMax && 2*n > len(o.slots):
		o.slots = make([]*chain, max(4*slotlessMax, 4*len(o.slots)))
		for _, c := range o.chains {
			o.slot(c)
		}
	case o.slots != nil:
		o.slot(c)
	}
	return c
}

// slot puts a chain into the first free slot for its hash; there always is one.
func (o *overlay) slot(c *chain) {
	mask := uint64(len(o.slots) - 1)
	i := c.hash & mask
	for o.slots[i] != nil {
		i = (i + 1) & mask
	}
	o.slots[i] = c
}

// set adds a version, after which the key stands as now says; it keeps key and row, nil for a deletion. lived tells whether the
// version replaces a living one.
func (o *overlay) set(key, row []byte, now standing, lived bool) {
	hash := o.hash(key)
	c := o.find(hash, key)
	if c == nil {
		c = o.add(hash, key)
		c.updated = lived
	}
	c.set(row, now)
}

// set adds a version, after which the key stands as now says.
func (c *chain) set(row []byte, now standing) {
	c.versions = append(c.versions, version{now.rev, row})
	c.now = now
}

// spanned tells whether a key without a chain is gone at the newest revision.
func (o *overlay) spanned(key []byte) bool { return o.isSpanned(key, math.MaxInt64) }

// get tells what the overlay knows of key at revision at: known is false if the database has to be asked.
func (o *overlay) get(key []byte, at kv.Revision) (v version, known bool) {
	if len(o.chains) > 0 {
		if c := o.find(o.hash(key), key); c != nil {
			if v, ok := c.at(at); ok {
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

// within returns the chains with keys in [lo, hi), in their order; a nil hi is no end.
func (o *overlay) within(lo, hi []byte) []*chain {
	all := o.inOrder()
	from := position(all, lo)
	to := len(all)
	if hi != nil {
		to = position(all, hi)
	}
	return all[from:max(from, to)]
}

func position(chains []*chain, key []byte) int {
	i, _ := slices.BinarySearchFunc(chains, key, func(c *chain, key []byte) int { return bytes.Compare(c.key, key) })
	return i
}

// inOrder returns all chains in key order.
func (o *overlay) inOrder() []*chain {
	came := o.chains[o.sorted:]
	if len(came) == 0 {
		return o.chains
	}
	sortChains(came)
	if o.sorted > 0 && bytes.Compare(o.chains[o.sorted-1].key, came[0].key) > 0 {
		o.chains = merged(o.chains[:o.sorted], came)
	}
	o.sorted = len(o.chains)
	return o.chains
}

// merged returns the chains of two slices that are in order, in order.
func merged(a, b []*chain) []*chain {
	all := make([]*chain, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if bytes.Compare(a[0].key, b[0].key) < 0 {
			all, a = append(all, a[0]), a[1:]
		} else {
			all, b = append(all, b[0]), b[1:]
		}
	}
	return append(append(all, a...), b...)
}

// sortChains puts chains in the order of their keys. What is compared first are eight bytes behind those that all keys share: keys
// themselves lie all over memory.
func sortChains(chains []*chain) {
	first := chains[0].key
	shared, sorted := len(first), true
	for i, c := range chains[1:] {
		shared = head.SharedLen(first[:shared], c.key)
		sorted = sorted && bytes.Compare(chains[i].key, c.key) < 0
	}
	if sorted {
		return
	}
	type headed struct {
		word uint64
		c    *chain
	}
	heads := make([]headed, len(chains))
	for i, c := range chains {
		heads[i] = headed{head.Word(c.key, shared), c}
	}
	slices.SortFunc(heads, func(a, b headed) int {
		if a.word != b.word {
			return cmp.Compare(a.word, b.word)
		}
		return bytes.Compare(a.c.key, b.c.key)
	})
	for i, h := range heads {
		chains[i] = h.c
	}
}

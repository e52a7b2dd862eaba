package mvcc

import (
	"hash/maphash"

	"holdfast/kv"
)

// standing is what a put asks of the present version of a key: all of it but the value. Version 0 is a key that does not live.
type standing struct {
	rev     kv.Rev
	create  kv.Revision
	version int64
	lease   kv.LeaseID
	size    int // of the encoded KeyValue
}

func (s *standing) lives() bool { return s.version > 0 }

// recent remembers how the keys stand that were written last, as of the published revision. A put that finds its key there is
// spared the search in the store, most of its cost. It belongs to the writer: nobody else reads it.
//
// There are two generations. What is written goes into the young one; when that is full the old one is forgotten and the young
// one becomes old. So a key that is written often stays, and nothing has to be taken out of a hash table. Entries hold no
// pointers: the garbage collector does not look at them.
//
//	Invariant: what it says of a key is true, and the young generation goes before the old one. A key that neither has was not changed
//	after the revision old.from, nor one that the young one does not have after young.from.
type recent struct {
	seed       maphash.Seed
	max        int // bytes of one generation
	young, old *generation
	reached    kv.Revision // the published one, or that about to be
}

// generation is a hash table of entries that are only added, and forgotten all at once.
type generation struct {
	entries []entry
	keys    []byte   // of all entries, one after the other
	slots   []uint32 // by hash, with linear probing: place in entries plus one, 0 if free; their number is a power of two
	from    kv.Revision
	living  int64 // entries of keys that live and that no younger generation has
}

// entry is a key and how it stands, in as few bytes as that takes.
type entry struct {
	main, create   kv.Revision
	version        int64
	lease          kv.LeaseID
	sub, size      uint32
	hash           uint32 // its lower half
	keyAt, keySize uint32
}

func (e *entry) lives() bool { return e.version > 0 }

func (e *entry) stand(s standing) {
	e.main, e.sub, e.create, e.version, e.lease, e.size = s.rev.Main, uint32(s.rev.Sub), s.create, s.version, s.lease, uint32(s.size)
}

func (e *entry) stands() standing {
	return standing{rev: kv.Rev{Main: e.main, Sub: int64(e.sub)}, create: e.create, version: e.version, lease: e.lease, size: int(e.size)}
}

// entryBytes is what an entry takes beside its key: itself and two to four slots.
const entryBytes = 56 + 3*4

// slotsMin is the size of the smallest table.
const slotsMin = 256

// newRecent makes a memory of at most maxBytes; with less than 0 it stays empty. It follows the changes after revision at.
func newRecent(maxBytes int64, at kv.Revision) *recent {
	r := &recent{seed: maphash.MakeSeed(), max: int(min(maxBytes/2, 1<<30)), young: new(generation), old: new(generation), reached: at}
	r.forget()
	return r
}

// since is a revision after which no key was changed that is not known.
func (r *recent) since() kv.Revision { return r.old.from }

func (r *recent) hash(key []byte) uint32 { return uint32(maphash.Bytes(r.seed, key)) }

// get tells how key stands, if it is known.
func (r *recent) get(key []byte) (s standing, known bool) {
	h := r.hash(key)
	e := r.young.find(h, key)
	if e == nil {
		e = r.old.find(h, key)
	}
	if e == nil {
		return standing{}, false
	}
	return e.stands(), true
}

// set notes how key stands now.
func (r *recent) set(key []byte, s standing) {
	h := r.hash(key)
	if e := r.young.find(h, key); e != nil {
		r.young.change(e, s)
		return
	}
	if e := r.old.find(h, key); e != nil {
		r.old.change(e, standing{})
	}
	if r.young.bytes()+entryBytes+len(key) > r.max {
		r.old.forget()
		r.young, r.old = r.old, r.young
		r.young.from = r.reached
		if entryBytes+len(key) > r.max {
			r.old.from = r.reached
			return
		}
	}
	r.young.add(h, key, s)
}

// forget forgets everything.
func (r *recent) forget() {
	r.young.forget()
	r.old.forget()
	r.young.from, r.old.from = r.reached, r.reached
}

// living is how many keys it knows to live. Where that is all there are, a key that it does not know does not live.
func (r *recent) living() int64 { return r.young.living + r.old.living }

func (g *generation) bytes() int { return len(g.entries)*entryBytes + len(g.keys) }

func (g *generation) find(hash uint32, key []byte) *entry {
	if len(g.slots) == 0 {
		return nil
	}
	mask := uint32(len(g.slots) - 1)
	for i := hash & mask; g.slots[i] != 0; i = (i + 1) & mask {
		e := &g.entries[g.slots[i]-1]
		if e.hash == hash && string(g.keys[e.keyAt:e.keyAt+e.keySize]) == string(key) {
			return e
		}
	}
	return nil
}

func (g *generation) change(e *entry, s standing) {
	if e.lives() {
		g.living--
	}
	if s.lives() {
		g.living++
	}
	e.stand(s)
}

// add adds a key that is not there yet.
func (g *generation) add(hash uint32, key []byte, s standing) {
	if len(g.slots) < 2*(len(g.entries)+1) {
		g.grow()
	}
	g.entries = append(g.entries, entry{hash: hash, keyAt: uint32(len(g.keys)), keySize: uint32(len(key))})
	g.entries[len(g.entries)-1].stand(s)
	g.keys = append(g.keys, key...)
	g.place(hash, uint32(len(g.entries)))
	if s.lives() {
		g.living++
	}
}

func (g *generation) grow() {
	g.slots = make([]uint32, max(slotsMin, 2*len(g.slots)))
	for i := range g.entries {
		g.place(g.entries[i].hash, uint32(i+1))
	}
}

func (g *generation) place(hash uint32, n uint32) {
	mask := uint32(len(g.slots) - 1)
	i := hash & mask
	for g.slots[i] != 0 {
		i = (i + 1) & mask
	}
	g.slots[i] = n
}

func (g *generation) forget() {
	clear(g.slots)
	g.entries, g.keys, g.living = g.entries[:0], g.keys[:0], 0
}

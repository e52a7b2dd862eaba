package mvcc

import (
	"hash/maphash"
	"sync"

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

// recent remembers how keys stand as of the published revision: those written last and, where there is room for all, every key that lives
// (recall.go). A put that finds its key there is spared the search in the store, which among a million keys is most of its cost.
//
// There are two generations (stands.go). What is new goes into the young one; when that is full the old one is forgotten and the young
// one becomes old. So a key that is written often stays, and nothing has to be taken out of a hash table.
//
//	Invariant: what it says of a key is true, and the young generation goes before the old one. A key that neither has was not changed
//	after the revision old.from, nor one that the young one does not have after young.from.
type recent struct {
	seed maphash.Seed
	max  int // bytes of one generation

	mu         sync.Mutex // guards what follows. The writer holds it for single keys, and when it publishes; recall for some tens of keys.
	young, old *stands
	reached    kv.Revision // the published one, or that about to be
	forgotten  uint64      // how often everything was forgotten
}

// newRecent makes a memory of at most maxBytes; with less than 0 it stays empty. It follows the changes after revision at.
func newRecent(maxBytes int64, at kv.Revision) *recent {
	r := &recent{seed: maphash.MakeSeed(), max: int(min(maxBytes/2, standsMax)), reached: at}
	r.forget()
	return r
}

// since is a revision after which no key was changed that is not known.
func (r *recent) since() kv.Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.old.from
}

// get tells how key stands, if it is known.
func (r *recent) get(key []byte) (s standing, known bool) {
	h := maphash.Bytes(r.seed, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, known = r.young.get(h, key); known {
		return s, true
	}
	return r.old.get(h, key)
}

// publish notes how the keys of chains stand at revision reached; all says that others changed too, which are not among them.
func (r *recent) publish(reached kv.Revision, all bool, chains []*chain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached = reached
	if all {
		r.forget()
	}
	for _, c := range chains {
		r.set(c.key, c.now)
	}
}

// start forgets everything and follows the changes after revision at.
func (r *recent) start(at kv.Revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached = at
	r.forget()
}

// set notes how key stands now. The caller holds mu.
func (r *recent) set(key []byte, s standing) {
	if !r.young.takes(key) { // neither has it, nor ever had
		r.young.from, r.old.from = r.reached, r.reached
		return
	}
	h := maphash.Bytes(r.seed, key)
	if r.young.set(h, key, s) {
		r.old.shadow(h, key)
		return
	}
	// Full. What the young one still says of the key goes behind what the next one says.
	r.young.shadow(h, key)
	r.old, r.young = r.young, newStands(r.seed, r.max, r.reached)
	r.young.set(h, key, s)
}

// forget forgets everything. The caller holds mu.
func (r *recent) forget() {
	r.young, r.old = newStands(r.seed, r.max, r.reached), newStands(r.seed, r.max, r.reached)
	r.forgotten++
}

func (r *recent) timesForgotten() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.forgotten
}

// living is how many keys it knows to live. Where that is all there are, a key that it does not know does not live.
func (r *recent) living() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.young.living + r.old.living
}

// keyStanding is a key that lives and how it stands.
type keyStanding struct {
	key []byte
	standing
}

// learn notes how keys stand that were read at revision at, and tells whether there was room for all. It changes nothing of what is known,
// and learns nothing where others may have changed since: those are forgotten already.
func (r *recent) learn(at kv.Revision, read []keyStanding) (room bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.old.from > at {
		return true
	}
	for _, k := range read {
		h := maphash.Bytes(r.seed, k.key)
		if r.young.has(h, k.key) || r.old.has(h, k.key) {
			continue
		}
		if !r.young.takes(k.key) || !r.young.add(h, k.key, k.standing) {
			return false
		}
	}
	return true
}

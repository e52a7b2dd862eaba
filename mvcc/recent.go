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
// (recall.go). A put that finds its key there is spared the search in the store, which among a million keys is most of its cost. Of more
// keys than there is room for it knows which there are, nearly (sieve.go): so a put of a new key is spared that, too.
//
// There are two generations (stands.go). What is new goes into the young one; when that is full the old one is forgotten and the young
// one becomes old. So a key that is written often stays, and nothing has to be taken out of a hash table.
//
//	Invariant: what it says of a key is true, and the young generation goes before the old one. A key that neither has was not changed
//	after the revision old.from, nor one that the young one does not have after young.from. What goes through the sieve
//	is as sifts says.
type recent struct {
	seed maphash.Seed
	max  int // bytes of one generation, while the sieve is small

	mu         sync.Mutex // guards what follows. The writer holds it for single keys, and when it publishes; recall for some tens of keys.
	young, old *stands
	reached    kv.Revision // the published one, or that about to be
	forgotten  uint64      // how often everything was forgotten
	sieve      sieve
	sifts      siftState
	// strangers grows with each key that is asked for and was never written, and falls with each that is remembered: from strangersUsual on the sieve is
	// asked first, as what is behind it does not have what does not pass.
	strangers  int
	emptied    uint64      // how often the sieve was
	siftedFrom kv.Revision // the one reached then
}

// siftState says what has been put into a sieve since it was emptied.
type siftState int

const (
	siftNone  siftState = iota // nothing
	siftNew                    // every key written since
	siftWhole                  // every key that lives
)

const (
	// sieveShare is the part of all memory that the sieve may take: 16 million keys of the default.
	sieveShare = 4
	// manyKeys is how many generations' keys are very many: those of both.
	manyKeys = 2

	strangersUsual, strangersMost = 8, 16
)

// newRecent makes a memory of at most maxBytes; with less than 0 it stays empty. It follows the changes after revision at, at which so many
// keys live.
func newRecent(maxBytes int64, at kv.Revision, keys int64) *recent {
	r := &recent{seed: maphash.MakeSeed(), max: int(min(maxBytes/2, standsMax))}
	r.sieve.max = 2 * max(r.max, 0) / sieveShare
	r.start(at, keys)
	return r
}

func (r *recent) hash(key []byte) uint64 { return maphash.Bytes(r.seed, key) }

// since is a revision after which no key was changed that is not known.
func (r *recent) since() kv.Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.old.from
}

// knowledge is where it is known from how a key stands.
type knowledge int

const (
	unknown    knowledge = iota
	remembered           // it was written lately, or read
	sifted               // it does not live: it was not put into the sieve
)

// get tells how the key with hash h stands, if it is known.
func (r *recent) get(h uint64, key []byte) (standing, knowledge) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.strangers >= strangersUsual
	stranger := first && r.isStranger(h)
	if !stranger {
		for _, t := range [...]*stands{r.young, r.old} {
			if s, known := t.get(h, key); known {
				r.strangers = max(0, r.strangers-1)
				return s, remembered
			}
		}
		stranger = !first && r.isStranger(h)
	}
	if !stranger {
		return standing{}, unknown
	}
	r.strangers = min(strangersMost, r.strangers+1)
	return standing{}, sifted
}

// isStranger tells whether the sieve says that a key does not live. The caller holds mu.
func (r *recent) isStranger(h uint64) bool { return r.sifts == siftWhole && !r.sieve.passes(h) }

// publish notes how the keys of chains stand at revision reached; all says that others were deleted too, which are not among them.
func (r *recent) publish(reached kv.Revision, all bool, chains []*chain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached = reached
	if all {
		r.forget()
	}
	for _, c := range chains {
		if r.sifts == siftNew || r.sifts == siftWhole && !c.updated {
			r.sift(c.hash, c.sifted)
		}
		r.set(c.hash, c.key, c.now, c.sifted)
	}
}

// start forgets everything and follows the changes after revision at, at which so many keys live.
func (r *recent) start(at kv.Revision, keys int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached = at
	r.forget()
	if keys == 0 {
		r.empty(siftWhole)
	} else {
		r.empty(siftNone)
	}
}

// set notes how key stands now; stranger says that the old generation does not have it as one that lives. The caller holds mu.
func (r *recent) set(h uint64, key []byte, s standing, stranger bool) {
	if !r.young.takes(key) { // neither has it, nor ever had
		r.young.from, r.old.from = r.reached, r.reached
		return
	}
	if r.young.set(h, key, s) {
		if !stranger {
			r.old.shadow(h, key)
		}
		return
	}
	// Full. What the young one still says of the key goes behind what the next one says.
	r.young.shadow(h, key)
	r.old, r.young = r.young, newStands(r.seed, r.generation(), r.reached)
	r.young.set(h, key, s)
}

// generation is how many bytes the next generation may take: both and the sieve take what recent was given. Among more keys than both
// have room for, few of those that are written were written lately: then it is half of that.
func (r *recent) generation() int {
	if r.sieve.keys*standBytes > manyKeys*r.max {
		return r.max / 2
	}
	return r.max - r.sieve.bytes/2
}

// sift puts a key into the sieve; stranger says that it did not pass before. A sieve that is full is emptied: it may be filled anew if most of its keys are
// gone. The caller holds mu.
func (r *recent) sift(h uint64, stranger bool) (room bool) {
	if stranger {
		room = r.sieve.add(h)
	} else {
		room = r.sieve.put(h)
	}
	if !room {
		r.empty(siftNone)
	}
	return room
}

// empty begins with an empty sieve. The caller holds mu.
func (r *recent) empty(sifts siftState) {
	if r.sieve.max == 0 {
		sifts = siftNone
	}
	r.sieve.empty()
	r.sifts, r.siftedFrom = sifts, r.reached
	r.emptied++
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

// sifting is the filling of a sieve: of that which was emptied so often, with the keys that lived at revision upTo.
type sifting struct {
	emptied uint64
	upTo    kv.Revision
}

// beginSifting tells what the sieve lacks, where so many keys live; none if it lacks nothing, or has no room for them. It leaves a quarter, which
// keys that come and go take before all begins anew.
func (r *recent) beginSifting(keys int64) (lacks sifting, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sifts == siftWhole || r.sifts == siftNone && keys > sieveRoom(r.sieve.max)/4*3 {
		return sifting{}, false
	}
	if r.sifts == siftNone {
		r.empty(siftNew)
	}
	return sifting{r.emptied, r.siftedFrom}, r.sifts == siftNew
}

// siftAll puts keys into the sieve, and tells whether it is still the one that lacks them; end says that these are the last of them.
func (r *recent) siftAll(lacks sifting, hashes []uint64, end bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.emptied != lacks.emptied {
		return false
	}
	for _, h := range hashes {
		if !r.sift(h, false) {
			return false
		}
	}
	if end {
		r.sifts = siftWhole
	}
	return true
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
		h := r.hash(k.key)
		if r.young.has(h, k.key) || r.old.has(h, k.key) {
			continue
		}
		if !r.young.takes(k.key) || !r.young.add(h, k.key, k.standing) {
			return false
		}
	}
	return true
}

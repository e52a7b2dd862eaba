package mvcc

import (
	"encoding/binary"
	"hash/maphash"

	"holdfast/kv"
)

// stands is a hash table of keys and how they stand, in as few bytes as that takes: some 55 for a key of 25. Keys are added and changed, and
// forgotten all at once. Nothing in it is a pointer, so the garbage collector does not look at it. It is divided into parts, so that
// nobody waits while all of it grows.
type stands struct {
	seed   maphash.Seed
	max    int
	bytes  int         // that entries and slots take: at most max
	from   kv.Revision // see recent
	living int64       // keys that live and are not shadowed
	parts  []standsPart
}

// standsPart holds the keys whose hashes begin alike.
type standsPart struct {
	// entries are, one after the other,
	//
	//	| room 1 | key length v | key | main v | sub v | create v | version v | lease v | size v | free ... |
	//
	// where v is a varint and room how many bytes come after the key, with entryGone added where another entry has taken its place. An
	// entry ends at a multiple of entryAlign.
	entries []byte
	// slots are searched by hash, with linear probing: | tag of the hash 6 bits | place of the entry in units of entryAlign, plus one: 26 bits |, 0 if
	// free. Their number is a power of two.
	slots []uint32
	used  int // slots that are not free
}

const (
	standsMax  = 256 << 20 // bytes, of one table: what a slot can point to
	partsMax   = 256
	partBytes  = 16 << 10 // at least, of a part of a full table
	entryAlign = 4
	entryGone  = 0x80
	placeBits  = 26
	placeMask  = 1<<placeBits - 1
	slotBytes  = 4
	slotsMin   = 8
	// valuesMax is the most that six numbers take, entryFixedMax the most that an entry takes beside its key.
	valuesMax     = 6 * binary.MaxVarintLen64
	entryFixedMax = 1 + binary.MaxVarintLen32 + valuesMax + entryAlign
)

func newStands(seed maphash.Seed, maxBytes int, from kv.Revision) *stands {
	n := 1
	for n < partsMax && 2*n*partBytes <= maxBytes {
		n *= 2
	}
	return &stands{seed: seed, max: maxBytes, from: from, parts: make([]standsPart, n)}
}

// takes tells whether an empty table has room for key, however it stands.
func (t *stands) takes(key []byte) bool {
	return entryFixedMax+len(key)+slotsMin*slotBytes <= t.max
}

// partOf, tagOf and the search for a slot use different bits of a hash.
func (t *stands) partOf(hash uint64) *standsPart { return &t.parts[hash>>56&uint64(len(t.parts)-1)] }

func tagOf(hash uint64) uint32 { return uint32(hash>>24) &^ placeMask }

// get tells how key stands, if it is there.
func (t *stands) get(hash uint64, key []byte) (s standing, known bool) {
	p := t.partOf(hash)
	slot := p.find(hash, key)
	if slot < 0 {
		return standing{}, false
	}
	return p.at(slot).stands(), true
}

func (t *stands) has(hash uint64, key []byte) bool { return t.partOf(hash).find(hash, key) >= 0 }

// set notes how key stands. It tells whether there was room; if not, nothing has changed.
func (t *stands) set(hash uint64, key []byte, s standing) bool {
	var scratch [valuesMax]byte
	values := s.append(scratch[:0])
	p := t.partOf(hash)
	slot := p.find(hash, key)
	if slot >= 0 {
		e := p.at(slot)
		lived := e.lives()
		if len(values) <= len(e.values) {
			copy(e.values, values)
		} else if t.grow(p, entryLen(key, values), 0) {
			p.entries[e.place] |= entryGone
			p.slots[slot] = tagOf(hash) | p.add(key, values)
		} else {
			return false
		}
		t.count(lived, s.lives())
		return true
	}
	return t.insert(p, hash, key, values, s.lives())
}

// add is set of a key that is not there.
func (t *stands) add(hash uint64, key []byte, s standing) bool {
	var scratch [valuesMax]byte
	return t.insert(t.partOf(hash), hash, key, s.append(scratch[:0]), s.lives())
}

func (t *stands) insert(p *standsPart, hash uint64, key, values []byte, lives bool) bool {
	if !t.grow(p, entryLen(key, values), 1) {
		return false
	}
	p.slots[p.free(hash)] = tagOf(hash) | p.add(key, values)
	p.used++
	t.count(false, lives)
	return true
}

// shadow says of key that it does not live, if it is there: for a table that is asked after another one, which has it.
func (t *stands) shadow(hash uint64, key []byte) {
	p := t.partOf(hash)
	if slot := p.find(hash, key); slot >= 0 {
		e := p.at(slot)
		t.count(e.lives(), false)
		clear(e.values)
	}
}

func (t *stands) count(lived, lives bool) {
	if lived {
		t.living--
	}
	if lives {
		t.living++
	}
}

// grow makes room in p for an entry of so many bytes, and for slots more. It tells whether there is as much.
func (t *stands) grow(p *standsPart, bytes, slots int) bool {
	entriesCap, slotsLen := cap(p.entries), len(p.slots)
	if need := len(p.entries) + bytes; need > entriesCap {
		entriesCap = max(need, entriesCap+entriesCap/4)
	}
	if 3*(p.used+slots) > 2*slotsLen {
		slotsLen = max(slotsMin, 2*slotsLen)
	}
	more := entriesCap - cap(p.entries) + slotBytes*(slotsLen-len(p.slots))
	if t.bytes+more > t.max {
		return false
	}
	t.bytes += more
	if entriesCap > cap(p.entries) {
		p.entries = append(make([]byte, 0, entriesCap), p.entries...)
	}
	if slotsLen > len(p.slots) {
		p.spread(t.seed, slotsLen)
	}
	return true
}

// find returns the slot of key, -1 if there is none.
func (p *standsPart) find(hash uint64, key []byte) int {
	if len(p.slots) == 0 {
		return -1
	}
	mask, tag := len(p.slots)-1, tagOf(hash)
	for i := int(hash) & mask; p.slots[i] != 0; i = (i + 1) & mask {
		if p.slots[i]&^placeMask == tag && string(p.at(i).key) == string(key) {
			return i
		}
	}
	return -1
}

// free returns a free slot for a hash; there is always one.
func (p *standsPart) free(hash uint64) int {
	mask := len(p.slots) - 1
	i := int(hash) & mask
	for p.slots[i] != 0 {
		i = (i + 1) & mask
	}
	return i
}

// spread puts all entries into n slots.
func (p *standsPart) spread(seed maphash.Seed, n int) {
	p.slots = make([]uint32, n)
	for place := 0; place < len(p.entries); {
		e := p.entry(place)
		if p.entries[place]&entryGone == 0 {
			hash := maphash.Bytes(seed, e.key)
			p.slots[p.free(hash)] = tagOf(hash) | slotFor(place)
		}
		place += e.len
	}
}

// slotFor is what a slot says of the place of an entry.
func slotFor(place int) uint32 { return uint32(place/entryAlign) + 1 }

// entry is an entry as it lies in a part: key and values are part of it.
type entry struct {
	place, len  int
	key, values []byte
}

// at returns the entry of a slot that is not free.
func (p *standsPart) at(slot int) entry {
	return p.entry(int(p.slots[slot]&placeMask-1) * entryAlign)
}

func (p *standsPart) entry(place int) entry {
	b := p.entries[place:]
	size, n := binary.Uvarint(b[1:])
	from := 1 + n
	to := from + int(size)
	end := to + int(b[0]&^entryGone)
	return entry{place: place, len: end, key: b[from:to], values: b[to:end]}
}

// entryLen is how many bytes an entry takes, with one left free at least: the next revision may be longer.
func entryLen(key, values []byte) int {
	n := 1 + uvarintLen(uint64(len(key))) + len(key) + len(values) + 1
	return (n + entryAlign - 1) / entryAlign * entryAlign
}

func uvarintLen(v uint64) (n int) {
	for n = 1; v >= 0x80; n++ {
		v >>= 7
	}
	return n
}

// add adds an entry, for which there is room, and returns what a slot says of its place.
func (p *standsPart) add(key, values []byte) uint32 {
	place, size := len(p.entries), entryLen(key, values)
	room := size - 1 - uvarintLen(uint64(len(key))) - len(key)
	b := append(p.entries, byte(room))
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	b = append(b, values...)
	p.entries = b[:place+size]
	clear(p.entries[len(b):])
	return slotFor(place)
}

// append adds the six numbers to dst.
func (s *standing) append(dst []byte) []byte {
	for _, v := range [...]uint64{
		uint64(s.rev.Main), uint64(s.rev.Sub), uint64(s.create), uint64(s.version), uint64(s.lease), uint64(s.size),
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// stands reads the six numbers.
func (e entry) stands() standing {
	var v [6]uint64
	b := e.values
	for i := range v {
		n := 0
		v[i], n = binary.Uvarint(b)
		b = b[n:]
	}
	return standing{
		rev: kv.Rev{Main: kv.Revision(v[0]), Sub: int64(v[1])}, create: kv.Revision(v[2]), version: int64(v[3]), lease: kv.LeaseID(v[4]), size: int(v[5]),
	}
}

func (e entry) lives() bool {
	s := e.stands()
	return s.lives()
}

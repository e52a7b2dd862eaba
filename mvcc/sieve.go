package mvcc

// sieve says of a key that it was never put in, or that it may have been: a Bloom filter, of sieveBits for a key and more. It asks for the hash of the
// key only, and nothing can be taken out of it. It grows by parts, each several times as large as the one before, since a filter
// that is full can not be spread over a larger one.
//
// A part is divided into blocks of eight words, and a key is one bit in each word of one block (a split block Bloom filter, as in Parquet). A
// key that was not put in is taken for one that was with 0.15 % in a part that is full.
//
//	Invariant: what was put in passes, until the sieve is emptied.
type sieve struct {
	max   int // bytes
	bytes int // of all parts: at most max
	keys  int // that were put in and did not pass before
	parts []sievePart
}

// sievePart is one filter; room is how many keys more it takes.
type sievePart struct {
	blocks []sieveBlock
	room   int
}

type sieveBlock [8]uint32

const (
	// sieveBits for a key are four more than take the least memory: a look for one of the few that pass in vain costs ten times as much as one of
	// many, as what it needs is in no cache. With 12 bits, of which 2 in 100 passed, that was an eighth of the CPU of a put of a new key. Small parts take
	// more, as it is little memory and whatever passes one of them passes the sieve.
	sieveBits       = 16
	sieveBitsSmall  = 22
	sieveSmall      = 4 << 20 // bytes
	sieveBlockBytes = 4 * len(sieveBlock{})
	// The first part has room for some 95,000 keys and the last one for 8 millions: as many keys as a member may have are in five parts,
	// each of which is one look into memory.
	sieveFirst = 256 << 10 // bytes
	sieveMost  = 16 << 20
	sieveGrows = 4
	// With less left than this part of max no other part is begun.
	sieveLeast = 8
)

// sieveSalts are odd numbers, by which a hash is multiplied to choose a bit of each word.
var sieveSalts = sieveBlock{0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31}

// passes tells whether the key with this hash may have been put in.
func (s *sieve) passes(hash uint64) bool {
	mask := sieveMask(hash)
	for i := len(s.parts) - 1; i >= 0; i-- { // most keys are in the last
		if s.parts[i].block(hash).has(&mask) {
			return true
		}
	}
	return false
}

// put puts a key in, unless it passes already. It tells whether there was room.
func (s *sieve) put(hash uint64) bool {
	return s.passes(hash) || s.add(hash)
}

// add is put of a key that does not pass.
func (s *sieve) add(hash uint64) bool {
	if !s.grow() {
		return false
	}
	last := &s.parts[len(s.parts)-1]
	mask := sieveMask(hash)
	for i, m := range mask {
		last.block(hash)[i] |= m
	}
	last.room--
	s.keys++
	return true
}

// grow sees to it that the last part has room for a key.
func (s *sieve) grow() bool {
	want := sieveFirst
	if n := len(s.parts); n > 0 {
		last := &s.parts[n-1]
		if last.room > 0 {
			return true
		}
		want = min(sieveGrows*len(last.blocks)*sieveBlockBytes, sieveMost)
	}
	left := s.max - s.bytes
	if left < max(sieveBlockBytes, s.max/sieveLeast) {
		return false
	}
	want = min(want, left) / sieveBlockBytes * sieveBlockBytes
	s.bytes += want
	s.parts = append(s.parts, sievePart{make([]sieveBlock, want/sieveBlockBytes), partRoom(want)})
	return true
}

// empty takes everything out and gives the memory back.
func (s *sieve) empty() { s.bytes, s.keys, s.parts = 0, 0, nil }

// sieveRoom is how many keys find room in a sieve of so many bytes.
func sieveRoom(bytes int) (keys int64) {
	for size := sieveFirst; bytes > 0; size = min(sieveGrows*size, sieveMost) {
		part := min(size, bytes)
		keys, bytes = keys+int64(partRoom(part)), bytes-part
	}
	return keys
}

// partRoom is how many keys find room in a part of so many bytes.
func partRoom(bytes int) int {
	if bytes <= sieveSmall {
		return bytes * 8 / sieveBitsSmall
	}
	return bytes * 8 / sieveBits
}

// block returns the only block in which a key may be.
func (p *sievePart) block(hash uint64) *sieveBlock {
	return &p.blocks[hash>>32*uint64(len(p.blocks))>>32]
}

// sieveMask is what a key sets in its block.
func sieveMask(hash uint64) (mask sieveBlock) {
	for i, salt := range sieveSalts {
		mask[i] = 1 << (uint32(hash) * salt >> 27)
	}
	return mask
}

func (b *sieveBlock) has(mask *sieveBlock) bool {
	for i, m := range mask {
		if b[i]&m == 0 {
			return false
		}
	}
	return true
}

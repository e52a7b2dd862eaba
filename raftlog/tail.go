package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// judgeTail decides what became of the last segment from the first record on that cannot be read. tail is the rest of the
// file, off its offset, crc the rolling sum before it, last the last entry before it. cause is empty when the tail is what a crash can leave of writes
// that were never acknowledged; else it says why it is not.
//
// What a crash can leave: everything up to the last sync is there. After it come, in this order, states that only move
// the commit index (never synced on their own) and the one batch that was being written: entries, closed by a state. Of
// these any sectors may be missing, and a missing sector reads as zero, because the file was zero there before.
// So a tail may be cut only if
//
//	(a) the first unreadable record lacks a sector: etcd's rule;
//	(b) nothing behind it shows that a later batch was begun, for then the batch of the record had been synced;
//	(c) it is not one flipped bit away from a good record: no crash flips bits, and whoever stores zeroes has all-zero
//	    sectors in good records too, so that (a) alone would let a flipped bit erase what was acknowledged.
//
// What remains undecidable is a zeroed sector in the very last batch of a log. The caller of Open knows more then: it
// must not accept a log that ends before what it has applied.
func judgeTail(tail []byte, off int64, crc uint32, last uint64) (cause string) {
	if allZero(tail) {
		return ""
	}
	if !lacksSector(tail, off) {
		return "no sector of the record is missing, so it was not torn by a crash"
	}
	if at, found := flippedBit(tail, off, crc); found {
		return fmt.Sprintf("the record would be right but for one bit in byte %d", off+at)
	}
	if laterBatch(tail, last) {
		return "behind the record stand records of a later write, so it had been synced"
	}
	return ""
}

// lacksSector reports whether the record at the start of tail can have been torn.
func lacksSector(tail []byte, off int64) bool {
	if len(tail) < frameHeaderBytes {
		return false
	}
	field := binary.LittleEndian.Uint64(tail)
	if field == 0 {
		return zeroSectorAt(tail, off, 0) // the length itself is missing, so all the rest of its sector must be
	}
	n, pad, ok := parseLength(field)
	if !ok {
		return false // a length never lies across two sectors
	}
	end := frameHeaderBytes + n + pad
	beyond := end > int64(len(tail))
	end = min(end, int64(len(tail)))
	for at := int64(frameHeaderBytes); at < end; at = nextSector(off, at) {
		if allZero(tail[at:min(end, nextSector(off, at))]) {
			return true
		}
	}
	// A record that made the file longer can have lost what lies behind the end. Then its own header, as far as there is
	// one, says the same length as the frame.
	return beyond && agrees(tail[frameHeaderBytes:], n)
}

// nextSector returns where, relative to the tail, the sector after the one of at begins.
func nextSector(off, at int64) int64 { return (off+at)/sectorBytes*sectorBytes + sectorBytes - off }

// zeroSectorAt reports whether all of the tail that lies in the sector of at is zero.
func zeroSectorAt(tail []byte, off, at int64) bool {
	from := max(0, nextSector(off, at)-sectorBytes)
	return allZero(tail[from:min(int64(len(tail)), nextSector(off, at))])
}

// agrees reports whether b, the beginning of a record, belongs to one of n bytes by its own header.
func agrees(b []byte, n int64) bool {
	begin := len(b)
	for _, tag := range []byte{0x08, 0x10, 0x1a} {
		if len(b) == 0 {
			return true
		}
		v, size := binary.Uvarint(b[1:])
		if b[0] != tag || size < 0 {
			return false
		}
		if size == 0 {
			return true
		}
		b = b[1+size:]
		if tag == 0x1a {
			return int64(begin-len(b)) == n-int64(min(v, 1<<56))
		}
	}
	return false
}

// flippedBit reports whether one flipped bit is all that keeps the start of tail from being a good record, and in which
// byte. A bit in a sector that is all zero does not count: that sector may be missing.
func flippedBit(tail []byte, off int64, crc uint32) (at int64, found bool) {
	counts := func(at int64) bool { return !zeroSectorAt(tail, off, at) }
	// The frame's and the record's header, and the padding, by trying.
	const headerBytes = frameHeaderBytes + 3 + 5 + 1 + binary.MaxVarintLen64
	try := span(0, headerBytes, int64(len(tail)))
	n, pad, ok := parseLength(binary.LittleEndian.Uint64(tail))
	end := frameHeaderBytes + n + pad
	whole := ok && end <= int64(len(tail))
	if whole {
		try = append(try, span(end-pad, end, end)...)
	}
	for _, at := range try {
		for bit := 0; bit < 8; bit++ {
			tail[at] ^= 1 << bit
			f, ok := parseFrame(tail)
			good := ok && f.follows(crc)
			tail[at] ^= 1 << bit
			if good && counts(at) {
				return at, true
			}
		}
	}
	// The data, by what a flipped bit does to the sum: it depends only on how many bytes follow it.
	f, ok := parseFrame(tail)
	if !ok || !whole {
		return 0, false
	}
	back, found := bitFromSyndrome(f.crc^crc32.Update(crc, castagnoli, f.data), len(f.data))
	at = end - pad - 1 - int64(back)
	return at, found && counts(at)
}

// span lists lo to hi-1, bounded by end.
func span(lo, hi, end int64) []int64 {
	var at []int64
	for i := lo; i < min(hi, end); i++ {
		at = append(at, i)
	}
	return at
}

// bitFromSyndrome finds the one bit in n bytes of data whose flip changes the sum by syndrome; back counts bytes from the
// last one. The sum is linear: a flipped bit adds a pattern that each byte behind it moves on by one table step.
func bitFromSyndrome(syndrome uint32, n int) (back int, found bool) {
	var pattern [8]uint32
	for bit := range pattern {
		pattern[bit] = castagnoli[1<<bit]
	}
	for back := range n {
		for bit, p := range pattern {
			if p == syndrome {
				return back, true
			}
			pattern[bit] = castagnoli[byte(p)] ^ p>>8
		}
	}
	return 0, false
}

// laterBatch reports whether the records behind the first one show that it had been synced: entries, closed by a state,
// followed by more entries or by a snapshot record, both of which begin a batch of their own. The entries themselves need
// not have survived: the unreadable record may be one, or the indexes tell that some are missing before a state. The latter
// takes a state and an entry with nothing lost between them: else what is missing may be of the entry's own batch.
func laterBatch(tail []byte, last uint64) (later bool) {
	entries := len(tail) > frameHeaderBytes+1 && tail[frameHeaderBytes] == 0x08 && tail[frameHeaderBytes+1] == byte(TypeEntry)
	closed := false
	const none = ^uint64(0)
	commit := none // of the last state, if nothing is lost since
	eachSurvivor(tail, func(f frame, adjoins bool) {
		if !adjoins {
			commit = none
		}
		switch f.typ {
		case TypeEntry:
			e, err := parseEntry(f.data)
			// The state that follows a snapshot record has its index as commit index, and entries go on from there.
			missed := err == nil && e.index > last+1 && commit < e.index-1
			later = later || closed || missed && !entries
			entries = true
		case TypeSnapshot:
			later = later || entries
		case TypeState:
			closed = closed || entries
			if s, err := decodeHardState(f.data); err == nil {
				commit = s.Commit
			}
		}
	})
	return later
}

// eachSurvivor finds the records behind an unreadable one. The sums of what is lost are not known, but that of a record
// follows from the sum stored in the record before it; only neighbours that agree in this way count. adjoins tells that nothing is lost
// between a record and the one visited before it.
func eachSurvivor(tail []byte, visit func(f frame, adjoins bool)) {
	at := int64(frameHeaderBytes)
	if n, pad, ok := parseLength(binary.LittleEndian.Uint64(tail)); ok && frameHeaderBytes+n+pad <= int64(len(tail)) {
		at += n + pad
	}
	var before frame
	chained, counted := false, false // before is a record that ends at at; it was visited
	for at < int64(len(tail)) {
		f, ok := parseFrame(tail[at:])
		switch {
		case !ok:
			chained, at = false, at+8
			continue
		case chained && f.follows(before.crc):
			if !counted {
				visit(before, false)
			}
			visit(f, true)
			counted = true
		default:
			counted = false
		}
		before, chained = f, true
		at += f.size
	}
}

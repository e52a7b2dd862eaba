package raftlog

import (
	"bytes"
	"strings"
	"testing"
)

// tailAt returns frames of a batch, an entry with the payload and a state, as they stand at offset off behind a sum.
func tailAt(payload []byte) (tail []byte, entryBytes int) {
	head, body, err := encodeEntry(nil, normal(1, 8, payload))
	must(err)
	tail, crc := appendRecord(nil, 77, TypeEntry, head, body)
	entryBytes = len(tail)
	tail, _ = appendRecord(tail, crc, TypeState, HardState{1, 0, 7}.encode(nil), nil)
	return append(tail, make([]byte, 2048)...), entryBytes
}

// A lost sector that held a single set bit looks like a flipped bit. It is what a crash leaves all the same.
func TestLostSectorOfOneBitIsTorn(t *testing.T) {
	tried := 0
	for n := range 64 {
		payload := append(bytes.Repeat([]byte("x"), n), '@')
		tail, size := tailAt(payload)
		last := tail[size-8 : size]
		if bytes.Count(last, []byte{0}) != 7 || !bytes.Contains(last, []byte("@")) {
			continue
		}
		tried++
		clear(tail[size-8:]) // the next sector, and with it the state, is missing
		off := int64(10*sectorBytes - (size - 8))
		if cause := judgeTail(tail, off, 77, 7); cause != "" {
			t.Errorf("payload of %d bytes: %s", n+1, cause)
		}
	}
	if tried < 3 {
		t.Errorf("only %d payloads end in a sector of their own", tried)
	}
}

// Every sector of a torn batch may be missing, at every place it may stand; a flipped bit is damage at each.
func TestJudgeTail(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 80)
	for shift := int64(0); shift < sectorBytes; shift += 8 {
		whole, size := tailAt(payload)
		off := 4096 + shift
		for from := int64(0); from < int64(size); from = nextSector(off, from) {
			tail := bytes.Clone(whole)
			clear(tail[from:nextSector(off, from)])
			if cause := judgeTail(tail, off, 77, 7); cause != "" {
				t.Fatalf("batch at %d without its sector at %d: %s", off, from, cause)
			}
			tail = bytes.Clone(whole)
			tail[from+3] ^= 0x10
			if cause := judgeTail(tail, off, 77, 7); cause == "" {
				t.Fatalf("batch at %d with a flipped bit at %d: torn", off, from+3)
			}
		}
	}
}

// A flipped bit in a payload of zeroes is found by what it does to the sum, wherever it stands.
func TestFlippedBitAmongZeroes(t *testing.T) {
	whole, size := tailAt(make([]byte, 3000))
	for at := 0; at < size; at += 37 {
		tail := bytes.Clone(whole)
		tail[at] ^= 4
		if cause := judgeTail(tail, 4096, 77, 7); cause == "" {
			t.Fatalf("flipped bit in byte %d: torn", at)
		} else if at > 100 && !strings.Contains(cause, "one bit") {
			t.Fatalf("flipped bit in byte %d: %s", at, cause)
		}
	}
}

// States that only move the commit index are not synced, so a crash may lose the first of them and keep what was written
// later. If entries were lost before a state, they had been synced before the next entries were written.
func TestLaterBatchTellsWhatWasSynced(t *testing.T) {
	const last = 100
	for _, c := range []struct {
		lost string
		want bool
	}{{"states", false}, {"entries", true}} {
		var tail []byte
		crc := uint32(77)
		add := func(typ Type, data []byte) { tail, crc = appendRecord(tail, crc, typ, data, nil) }
		entry := func(index uint64) {
			head, body, err := encodeEntry(nil, normal(3, index, []byte("data")))
			must(err)
			add(TypeEntry, append(head, body...))
		}
		next := uint64(last + 1)
		if c.lost == "entries" {
			for ; next < last+20; next++ {
				entry(next)
			}
			add(TypeState, HardState{3, 0, 50}.encode(nil))
		}
		for commit := uint64(51); commit < 80; commit++ {
			add(TypeState, HardState{3, 0, commit}.encode(nil))
		}
		entry(next)
		add(TypeState, HardState{3, 0, 80}.encode(nil))
		clear(tail[:sectorBytes])
		if cause := judgeTail(tail, 4096, 77, last); (cause != "") != c.want {
			t.Errorf("lost %s: %q", c.lost, cause)
		}
	}
}

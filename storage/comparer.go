package storage

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// comparer orders keys by table and body, byte by byte, and the versions of one body from the newest to the oldest.
//
// A body is followed by 0x00 before its suffix, and all bodies are, so comparing what split leaves compares the
// bodies: where one body is the beginning of the other, the shorter meets its 0x00 at a byte that is at least 0x00,
// and if that byte is 0x00 too it ends first. Comparing whole keys would not do: the suffix of "a" would be compared
// with the rest of "a\x00".
//
// Every function is set here, because Pebble's EnsureDefaults leaves some of them nil.
var comparer = &pebble.Comparer{
	Compare:              compare,
	Equal:                bytes.Equal,
	ComparePointSuffixes: bytes.Compare,
	CompareRangeSuffixes: bytes.Compare,
	Split:                split,
	AbbreviatedKey:       abbreviate,
	Separator:            separator,
	Successor:            successor,
	ImmediateSuccessor:   immediateSuccessor,
	FormatKey:            func(key []byte) fmt.Formatter { return formatKey(key) },
	ValidateKey:          validateKey,
	Name:                 "holdfast.1",
}

func compare(a, b []byte) int {
	an, bn := split(a), split(b)
	if c := bytes.Compare(a[:an], b[:bn]); c != 0 {
		return c
	}
	return bytes.Compare(a[an:], b[bn:])
}

// stem is a key without suffix and without the 0x00 behind its body: what the ordinary byte-wise helpers work on.
func stem(key []byte) []byte {
	if n := split(key); n > 0 {
		return key[:n-1]
	}
	return nil
}

func abbreviate(key []byte) uint64 { return pebble.DefaultComparer.AbbreviatedKey(stem(key)) }

// separator shortens the stem of a without reaching that of b. A stem that stays as long as it was is of no use, so a
// itself is the answer: any other key with its stem would sort before the versions of a.
func separator(dst, a, b []byte) []byte {
	as, bs := stem(a), stem(b)
	if len(as) == 0 || len(bs) == 0 || bytes.Compare(as, bs) >= 0 {
		return append(dst, a...)
	}
	return finish(pebble.DefaultComparer.Separator(dst, as, bs), len(dst), as, a)
}

func successor(dst, a []byte) []byte {
	if len(a) == 0 {
		return append(dst, sentinel)
	}
	as := stem(a)
	return finish(pebble.DefaultComparer.Successor(dst, as), len(dst), as, a)
}

// finish turns the shortened stem in dst[n:] into a key, or puts a there if nothing was won.
func finish(dst []byte, n int, as, a []byte) []byte {
	if len(dst)-n >= len(as) {
		return append(dst[:n], a...)
	}
	return append(dst, sentinel)
}

func immediateSuccessor(dst, prefix []byte) []byte {
	return append(append(dst, prefix...), sentinel)
}

// formatKey prints a key as table, body and revision.
type formatKey []byte

func (k formatKey) Format(s fmt.State, _ rune) {
	n := split(k)
	if n < 2 {
		fmt.Fprintf(s, "%x", []byte(k))
		return
	}
	fmt.Fprintf(s, "%s/%q", Table(k[0]), []byte(k[1:n-1]))
	if len(k)-n == suffixLen {
		fmt.Fprintf(s, "@%s", decodeSuffix(k[n:]))
	}
}

package storage

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
)

// hardBodies are beginnings of one another, empty, and full of the bytes that the encoding itself uses.
func hardBodies() [][]byte {
	bodies := [][]byte{
		{}, {0}, {0, 0}, {0, 0, 0}, {suffixLen}, {0, suffixLen}, []byte("a"), []byte("a\x00"), []byte("a\x00\x00"),
		[]byte("a\x00\x0d"), []byte("a\x00b"), []byte("a\x01"), []byte("ab"), []byte("a\xff"), []byte("b"), {0xff},
		{0xff, 0xff}, bytes.Repeat([]byte{0}, 20), bytes.Repeat([]byte{0xff}, 20), bytes.Repeat([]byte{suffixLen}, 20),
	}
	// Bodies that look like another body with a suffix.
	for _, rev := range hardRevs() {
		bodies = append(bodies, appendSuffix([]byte("a\x00"), rev))
	}
	return bodies
}

func hardRevs() []kv.Rev {
	return []kv.Rev{
		{}, {Main: 1}, {Main: 1, Sub: 1}, {Main: 2}, {Main: 255, Sub: 255}, {Main: math.MaxInt64},
		{Main: math.MaxInt64, Sub: math.MaxUint32},
	}
}

// TestComparer: Pebble's own check of the comparer holds for bodies and suffixes that are hard for it.
func TestComparer(t *testing.T) {
	var prefixes, suffixes [][]byte
	for _, body := range hardBodies() {
		prefixes = append(prefixes, TableVersions.Key(body))
	}
	for _, rev := range hardRevs() {
		suffixes = append(suffixes, appendSuffix(nil, rev))
	}
	if err := pebble.CheckComparer(comparer, prefixes, suffixes); err != nil {
		t.Fatal(err)
	}
}

type row struct {
	body []byte
	rev  *kv.Rev // nil for a plain row
}

func (r row) key() []byte {
	if r.rev == nil {
		return TableVersions.Key(r.body)
	}
	return TableVersions.AppendVersionKey(nil, r.body, *r.rev)
}

// before is the order that the comparer promises, written down without the encoding.
func (r row) before(o row) bool {
	switch c := bytes.Compare(r.body, o.body); {
	case c != 0:
		return c < 0
	case r.rev == nil || o.rev == nil:
		return r.rev == nil && o.rev != nil
	}
	return o.rev.Less(*r.rev)
}

func hardRows() (rows []row) {
	for _, body := range hardBodies() {
		rows = append(rows, row{body: body})
		for _, rev := range hardRevs() {
			rows = append(rows, row{body, &rev})
		}
	}
	return rows
}

// TestOrder: keys compare as bodies do, and versions of one body from the newest on; the helpers that shorten keys for
// index blocks stay between the keys they are given.
func TestOrder(t *testing.T) {
	rows := hardRows()
	for _, a := range rows {
		ka := a.key()
		if s := successor(nil, ka); compare(ka, s) > 0 || validateKey(s) != nil {
			t.Fatalf("successor of %x is %x", ka, s)
		}
		for _, b := range rows {
			kb := b.key()
			if got, want := compare(ka, kb) < 0, a.before(b); got != want {
				t.Fatalf("%s before %s: %t, want %t", formatString(ka), formatString(kb), got, want)
			}
			if x, y := abbreviate(ka), abbreviate(kb); x < y && !a.before(b) || x > y && !b.before(a) {
				t.Fatalf("abbreviations %x of %x and %x of %x", x, ka, y, kb)
			}
			if !a.before(b) {
				continue
			}
			s := separator([]byte("dst"), ka, kb)[3:]
			if compare(ka, s) > 0 || compare(s, kb) >= 0 || validateKey(s) != nil {
				t.Fatalf("separator of %x and %x is %x", ka, kb, s)
			}
		}
	}
}

// TestImmediateSuccessor: nothing fits between a prefix and its immediate successor.
func TestImmediateSuccessor(t *testing.T) {
	for _, a := range hardBodies() {
		next := immediateSuccessor(nil, TableVersions.Key(a))
		if !bytes.Equal(next, TableVersions.Key(append(bytes.Clone(a), 0))) {
			t.Fatalf("immediate successor of %x is %x", a, next)
		}
	}
}

// TestShortKeysAreShort: the comparer is of use, not only right.
func TestShortKeysAreShort(t *testing.T) {
	a := TableVersions.AppendVersionKey(nil, []byte("/registry/pods/default/a"), kv.Rev{Main: 7})
	b := TableVersions.AppendVersionKey(nil, []byte("/registry/secrets/default/a"), kv.Rev{Main: 7})
	if got, want := separator(nil, a, b), TableVersions.Key([]byte("/registry/q")); !bytes.Equal(got, want) {
		t.Fatalf("separator is %s, not %s", formatString(got), formatString(want))
	}
	if got := fmt.Sprint(formatKey(a)); got != `versions/"/registry/pods/default/a"@7.0` {
		t.Fatalf("printed as %s", got)
	}
}

func TestValidateKey(t *testing.T) {
	for _, key := range [][]byte{nil, {2, 1}, {2, 'a', 5}, append([]byte{2, 'a'}, appendSuffix(nil, kv.Rev{Main: 1})...)} {
		if validateKey(key) == nil {
			t.Errorf("key %x passed", key)
		}
	}
	for _, r := range hardRows() {
		if err := validateKey(r.key()); err != nil {
			t.Error(err)
		}
	}
}

// TestIterOrder: what went in in any order comes out in the order of the bodies, from memtables and from tables, and
// every seek lands where the order says.
func TestIterOrder(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	rows := hardRows()
	shuffled := rand.New(rand.NewPCG(1, 2)).Perm(len(rows))
	for n, i := range shuffled {
		b := s.NewBatch()
		b.Set(rows[i].key(), []byte(fmt.Sprint(i)))
		commit(t, b)
		if n%50 == 49 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	it, err := s.Scan(TableVersions, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIter(t, it)
	n := 0
	var last row
	for it.Next() {
		r := row{body: bytes.Clone(it.Body())}
		if key := it.it.Key(); it.n < len(key) {
			rev := it.Rev()
			r.rev = &rev
		}
		if n > 0 && !last.before(r) {
			t.Fatalf("%s after %s", formatString(r.key()), formatString(last.key()))
		}
		last = r
		n++
	}
	if n != len(rows) {
		t.Fatalf("%d rows, not %d", n, len(rows))
	}
	for _, r := range rows {
		if r.rev == nil {
			continue
		}
		for _, seek := range []func([]byte, kv.Rev) bool{it.SeekVersion, it.SeekBodyVersion} {
			if !seek(r.body, *r.rev) || !bytes.Equal(it.Body(), r.body) || it.Rev() != *r.rev {
				t.Fatalf("seek of %s does not find it", formatString(r.key()))
			}
		}
	}
}

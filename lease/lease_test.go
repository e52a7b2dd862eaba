package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"holdfast/kv"
	"holdfast/storage"
	"holdfast/storage/storagetest"
)

// book is a set of leases over a store in memory. Every change is a batch of its own.
type book struct {
	t     *testing.T
	store *storage.Store
	*Set
}

func openBook(t *testing.T) *book {
	b := &book{t: t, store: storagetest.Open(t)}
	b.load()
	return b
}

func (b *book) load() {
	b.t.Helper()
	set, err := Load(b.store, 5)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Set = set
}

// do runs a change in a batch and commits it.
func (b *book) do(change func(*storage.Batch)) {
	b.t.Helper()
	storagetest.Commit(b.t, b.store, change)
}

func (b *book) grant(id kv.LeaseID, ttl int64) (l Lease, err error) {
	b.do(func(batch *storage.Batch) { l, err = b.Grant(batch, id, ttl) })
	return l, err
}

// text writes down everything that a set knows.
func (b *book) text() string {
	var out strings.Builder
	for _, l := range b.All() {
		fmt.Fprintf(&out, "%d %d/%d %s\n", int64(l.ID), l.Remaining, l.TTL, b.Keys(l.ID))
	}
	return out.String()
}

// TestGrant asks for the bounds of a life, and that no id is given twice.
func TestGrant(t *testing.T) {
	b := openBook(t)
	for _, c := range []struct {
		id   kv.LeaseID
		ttl  int64
		want int64
		err  error
	}{
		{id: 1, ttl: 4, want: 5},
		{id: 2, ttl: 5, want: 5},
		{id: 3, ttl: 6, want: 6},
		{id: 4, ttl: 0, want: 5},
		{id: 5, ttl: -1 << 63, want: 5},
		{id: 6, ttl: TTLMax, want: TTLMax},
		{id: 7, ttl: TTLMax + 1, err: ErrTTLTooLarge},
		{id: 0, ttl: 5, err: ErrNotFound},
		{id: 0, ttl: TTLMax + 1, err: ErrNotFound},
		{id: 3, ttl: 5, err: ErrExists},
		{id: -1 << 63, ttl: 5, want: 5},
	} {
		l, err := b.grant(c.id, c.ttl)
		if !errors.Is(err, c.err) || l.TTL != c.want {
			t.Errorf("grant %d for %d s: %+v, %v; want %d s, %v", int64(c.id), c.ttl, l, err, c.want, c.err)
		}
	}
	if _, found := b.Lookup(7); found || b.Len() != 7 {
		t.Errorf("%d leases, want the 7 that were granted", b.Len())
	}
	if l, _ := b.Lookup(3); l.TTL != 6 {
		t.Errorf("a second grant changed the lease to %d s", l.TTL)
	}
}

// TestWhatIsLoadedIsWhatWasKept makes every kind of change and compares the set in memory with one that is read back
// after each.
func TestWhatIsLoadedIsWhatWasKept(t *testing.T) {
	b := openBook(t)
	var want string
	steps := []struct {
		name   string
		change func(*storage.Batch)
		want   string
	}{
		{"grant", func(batch *storage.Batch) {
			for _, id := range []kv.LeaseID{9, -3, 7} {
				if _, err := b.Grant(batch, id, 60); err != nil {
					t.Fatal(err)
				}
			}
		}, "7 0/60 []\n9 0/60 []\n-3 0/60 []\n"},
		{"attach", func(batch *storage.Batch) {
			b.Move(batch, []byte("b"), 0, 7)
			b.Move(batch, []byte("a"), 0, 7)
			b.Move(batch, []byte("\x00"), 0, -3)
		}, "7 0/60 [a b]\n9 0/60 []\n-3 0/60 [\x00]\n"},
		{"move", func(batch *storage.Batch) { b.Move(batch, []byte("a"), 7, 9) }, "7 0/60 [b]\n9 0/60 [a]\n-3 0/60 [\x00]\n"},
		{"move to where it is", func(batch *storage.Batch) { b.Move(batch, []byte("a"), 9, 9) }, "7 0/60 [b]\n9 0/60 [a]\n-3 0/60 [\x00]\n"},
		{"detach", func(batch *storage.Batch) { b.Move(batch, []byte("b"), 7, 0) }, "7 0/60 []\n9 0/60 [a]\n-3 0/60 [\x00]\n"},
		{"move from and to nobody", func(batch *storage.Batch) { b.Move(batch, []byte("c"), 55, 56) }, "7 0/60 []\n9 0/60 [a]\n-3 0/60 [\x00]\n"},
		{"checkpoint", func(batch *storage.Batch) {
			b.Checkpoint(batch, 7, 31)
			b.Checkpoint(batch, 55, 1)
		}, "7 31/60 []\n9 0/60 [a]\n-3 0/60 [\x00]\n"},
		{"renew", func(batch *storage.Batch) { b.Checkpoint(batch, 7, 0) }, "7 0/60 []\n9 0/60 [a]\n-3 0/60 [\x00]\n"},
		{"revoke", func(batch *storage.Batch) {
			keys, err := b.Revoke(batch, 9)
			if err != nil || !reflect.DeepEqual(keys, [][]byte{[]byte("a")}) {
				t.Errorf("revoking gave %q, %v", keys, err)
			}
			if _, err := b.Revoke(batch, 9); !errors.Is(err, ErrNotFound) {
				t.Errorf("revoking twice gave %v", err)
			}
		}, "7 0/60 []\n-3 0/60 [\x00]\n"},
		{"grant the same id again", func(batch *storage.Batch) {
			if _, err := b.Grant(batch, 9, 10); err != nil {
				t.Error(err)
			}
		}, "7 0/60 []\n9 0/10 []\n-3 0/60 [\x00]\n"},
	}
	for _, step := range steps {
		b.do(step.change)
		if got := b.text(); got != step.want {
			t.Fatalf("after %s:\n%swant\n%s", step.name, got, step.want)
		}
		want = b.text()
		b.load()
		if got := b.text(); got != want {
			t.Fatalf("after %s was read back:\n%swas\n%s", step.name, got, want)
		}
	}
}

// TestLoadRefusesWhatNoLeaseWrote puts broken rows into the tables: they are found when they are read, not served.
func TestLoadRefusesWhatNoLeaseWrote(t *testing.T) {
	id := binary.BigEndian.AppendUint64(nil, 7)
	for name, c := range map[string]struct {
		table       storage.Table
		body, value []byte
		want        string
	}{
		"short id":        {storage.TableLease, id[:7], []byte{2, 2}, "lease id of 7 bytes"},
		"no ttl":          {storage.TableLease, id, nil, "no ttl"},
		"cut ttl":         {storage.TableLease, id, []byte{0x80}, "no ttl"},
		"no remaining":    {storage.TableLease, id, []byte{2}, "no remaining ttl"},
		"key without id":  {storage.TableLeaseKey, id[:3], nil, "in 3 bytes"},
		"key of no lease": {storage.TableLeaseKey, append(id, 'k'), nil, "does not exist"},
	} {
		b := openBook(t)
		b.do(func(batch *storage.Batch) { batch.Set(c.table.Key(c.body), c.value) })
		if _, err := Load(b.store, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

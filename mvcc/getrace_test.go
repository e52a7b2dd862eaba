package mvcc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"holdfast/kv"
)

// TestGetDuringWrites: readers get single keys at random revisions, without a cache of rows, while keys are written, deleted and compacted, and tables
// flushed, merged and let go. What each revision does is known in advance, so every get has one right answer.
func TestGetDuringWrites(t *testing.T) {
	const keys, readers, last = 20, 4, kv.Revision(1500)
	seed := seedOf(t)
	st, s := openMemWith(t, Config{RowCacheBytes: -1})
	plan := planGets(rand.New(rand.NewPCG(seed, 0)), keys, last)
	var wg sync.WaitGroup
	for i := range uint64(readers) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1+i))
			n := 0
			for ; s.Revision() < last; n++ {
				if err := plan.get(rng, s); err != nil {
					t.Error(err)
					break
				}
			}
			t.Logf("%d gets", n)
		})
	}
	rng := rand.New(rand.NewPCG(seed, 1+readers))
	for rev := firstRevision + 1; rev <= last; rev++ {
		write(t, st, s, func(c *Command) {
			if key := plan.keys[rev]; plan.lives[rev] {
				c.Put(key, fmt.Append(nil, int64(rev)), 0)
			} else {
				c.DeleteRange(kv.KeyRange{Key: key}, nil)
			}
		})
		if rev%50 == 0 {
			compactAt(t, st, s, rev-10)
		}
		_, err := s.CompactStep(20)
		switch rng.IntN(200) {
		case 0:
			err = errors.Join(err, st.Flush())
		case 1:
			err = errors.Join(err, st.Compact(t.Context()))
		case 2:
			err = errors.Join(err, st.LetGo())
		}
		if err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// getPlan says of each revision which key it writes, and whether that lives then.
type getPlan struct {
	keys  [][]byte
	lives []bool
}

func planGets(rng *rand.Rand, keys int, last kv.Revision) *getPlan {
	p := &getPlan{keys: make([][]byte, last+1), lives: make([]bool, last+1)}
	now := make([]bool, keys)
	for rev := firstRevision + 1; rev <= last; rev++ {
		k := rng.IntN(keys)
		now[k] = !now[k] || rng.IntN(4) > 0
		p.keys[rev], p.lives[rev] = fmt.Append(nil, "key", k), now[k]
	}
	return p
}

// get compares the answer for one key with the plan.
func (p *getPlan) get(rng *rand.Rand, s *Store) error {
	q := &kv.RangeRequest{KeyRange: kv.KeyRange{Key: p.keys[2+rng.IntN(len(p.keys)-2)]}}
	if rng.IntN(3) == 0 {
		q.Revision = max(s.Revision()-kv.Revision(rng.IntN(30)), 1)
	}
	r, err := s.Range(context.Background(), q)
	switch {
	case errors.Is(err, ErrCompacted) && q.Revision > 0:
		return nil
	case err != nil:
		return err
	}
	at := r.Revision
	if q.Revision > 0 {
		at = q.Revision
	}
	want := at
	for want > 0 && string(p.keys[want]) != string(q.Key) {
		want--
	}
	if !p.lives[want] {
		if r.Rows.Len() > 0 {
			return fmt.Errorf("%s lives at %s", q.Key, at)
		}
		return nil
	}
	for row := range r.Rows.All() {
		v, err := kv.DecodeKeyValue(row)
		if err != nil {
			return err
		}
		if v.Mod != want {
			return fmt.Errorf("%s at %s is of %s, not %s", q.Key, at, v.Mod, want)
		}
	}
	if r.Rows.Len() != 1 {
		return fmt.Errorf("%s is not found at %s", q.Key, at)
	}
	return nil
}

// TestGetCompacted: who learned of a revision before it was compacted hears so when it looks for a key, whether the iterator is new or one that others have
// used.
func TestGetCompacted(t *testing.T) {
	st, s := openMem(t)
	put := func() { write(t, st, s, func(c *Command) { c.Put([]byte("k"), []byte("v"), 0) }) }
	put()
	before := view{s: s, now: s.published.Load(), at: s.Revision()}
	put()
	now := view{s: s, now: s.published.Load(), at: before.at}
	for _, v := range []*view{&now, &before, &now} {
		it, err := v.lookup()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := v.read(it, []byte("k")); closeWith(it, err) != nil {
			t.Fatal(err)
		}
	}
	compactAt(t, st, s, s.Revision())
	for done := false; !done; {
		var err error
		if done, err = s.CompactStep(10); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []*view{&now, &before} {
		for _, what := range []string{"used", "new"} {
			if row, err := v.get([]byte("k")); !errors.Is(err, ErrCompacted) {
				t.Errorf("with an iterator that is %s: %q (%v)", what, row, err)
			}
			if err := st.LetGo(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

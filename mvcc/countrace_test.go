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

// TestCountDuringWrites: readers count random ranges at random revisions while keys are created, deleted one by one and
// by the range, and compacted. The state at every revision is known in advance, so each count has one right answer.
func TestCountDuringWrites(t *testing.T) {
	const keys, commands, readers = 4000, 150, 3
	seed := seedOf(t)
	plan := planCounts(rand.New(rand.NewPCG(seed, 1)), keys, commands)
	st, s := openMem(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range uint64(readers) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 2+i))
			for n := 0; ; n++ {
				select {
				case <-done:
					t.Logf("%d counts", n)
					return
				default:
				}
				if err := plan.count(rng, s); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n, changes := range plan.changes {
		write(t, st, s, func(c *Command) {
			for _, d := range changes {
				if d.to > d.from {
					c.DeleteRange(kv.KeyRange{Key: countKey(d.from), End: countKey(d.to)}, nil)
				} else {
					c.Put(countKey(d.from), []byte("v"), 0)
				}
			}
		})
		if n%25 == 24 {
			compactAt(t, st, s, s.Revision()-10)
		}
		if _, err := s.CompactStep(2000); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func countKey(i int) []byte { return fmt.Appendf(nil, "k%05d", i) }

// countPlan is what is going to be done, and how many of the first i keys live at each revision.
type countPlan struct {
	changes [][]countChange
	below   map[kv.Revision][]int
}

// countChange puts the key from, or deletes the keys [from, to).
type countChange struct{ from, to int }

func planCounts(rng *rand.Rand, keys, commands int) *countPlan {
	p := &countPlan{below: map[kv.Revision][]int{}}
	lives := make([]bool, keys)
	p.below[firstRevision] = sums(lives)
	for len(p.changes) < commands {
		var changes []countChange
		kind := rng.IntN(4)
		at := rng.IntN(keys)
		changed := false
		for i := range min(1+rng.IntN(300), keys-at) {
			switch kind {
			case 0:
				at = rng.IntN(keys)
				fallthrough
			case 1:
				k := at + i
				if k >= keys {
					k -= keys
				}
				changes, lives[k], changed = append(changes, countChange{from: k}), true, true
			case 2:
				k := rng.IntN(keys)
				changed = changed || lives[k]
				changes, lives[k] = append(changes, countChange{from: k, to: k + 1}), false
			}
		}
		if kind == 3 {
			to := min(at+1+rng.IntN(keys/4), keys)
			for k := at; k < to; k++ {
				changed = changed || lives[k]
				lives[k] = false
			}
			changes = append(changes, countChange{from: at, to: to})
		}
		if changed { // else there is no revision
			p.changes = append(p.changes, changes)
			p.below[firstRevision+kv.Revision(len(p.changes))] = sums(lives)
		}
	}
	return p
}

// sums returns for each i how many of the keys before it live.
func sums(lives []bool) []int {
	s := make([]int, len(lives)+1)
	for i, l := range lives {
		s[i+1] = s[i]
		if l {
			s[i+1]++
		}
	}
	return s
}

// count asks for one random count, alone or with a page.
func (p *countPlan) count(rng *rand.Rand, s *Store) error {
	keys := len(p.below[firstRevision]) - 1
	from, to := rng.IntN(keys+1), rng.IntN(keys+1)
	if from > to {
		from, to = to, from
	}
	q := &kv.RangeRequest{KeyRange: kv.KeyRange{Key: countKey(from), End: countKey(to)}, CountOnly: rng.IntN(2) == 0, Limit: 10}
	if back := kv.Revision(rng.IntN(30)); back < 20 && s.Revision() > back {
		q.Revision = s.Revision() - back
	}
	r, err := s.Range(context.Background(), q)
	if errors.Is(err, ErrCompacted) && q.Revision > 0 && q.Revision < s.Compacted() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("count at %s: %w", q.Revision, err)
	}
	at := r.Revision
	if q.Revision > 0 {
		at = q.Revision
	}
	if want := p.below[at][to] - p.below[at][from]; r.Count != int64(want) {
		return fmt.Errorf("[%d, %d) at %s has %d keys, not %d", from, to, at, r.Count, want)
	}
	return nil
}

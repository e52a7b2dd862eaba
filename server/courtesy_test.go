package server

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestCourtesy: what has time rests where requests are served, longer while merges are behind, and where there are none it does not. A clock
// and a member made of numbers.
func TestCourtesy(t *testing.T) {
	const pause, worked = time.Millisecond, 100 * time.Microsecond
	now, work, waiting, depth := time.Unix(1e9, 0), uint64(7), 0, 3
	c := &courtesy{now: func() time.Time { return now }}
	rests := func(what string, removal, merge time.Duration) {
		t.Helper()
		if got := c.removal(worked, pause, false); got != removal {
			t.Errorf("%s: the removal rests for %s, not %s", what, got, removal)
		}
		if got := c.mergeRests(worked); got != merge {
			t.Errorf("%s: a merge rests for %s, not %s", what, got, merge)
		}
	}
	serve := func(requests uint64) {
		now, work = now.Add(busyLook+1), work+100
		c.look()
		now, work = now.Add(busyLook/2), work+requests
	}

	rests("a member that does not run", 0, 0)
	c.watch(sights{work: func() uint64 { return work }, waiting: func() int { return waiting }, depth: func() int { return depth }})
	rests("one that has just begun", 0, 0)
	now, work = now.Add(time.Hour), work+1e6
	rests("one that did much, but long ago", 0, 0)
	serve(busyWork - 1)
	rests("one that does next to nothing", 0, 0)

	serve(busyWork)
	rests("one that serves", removalRest*worked, mergeRest*worked)
	if got := c.removal(worked/1000, pause, false); got != pause {
		t.Errorf("after a short piece the removal rests for %s, less than it was told to", got)
	}
	if got := c.removal(time.Second, pause, false); got != removalRestMost*pause {
		t.Errorf("after a long piece the removal rests for %s", got)
	}
	if got := c.removal(worked, pause, true); got != pause {
		t.Errorf("the removal rests for %s although the next compaction waits", got)
	}
	now = now.Add(busyFor / 2)
	rests("one that served a moment ago", removalRest*worked, mergeRest*worked)
	now, waiting = now.Add(busyFor), busyWork
	rests("one where requests wait and nothing is done", removalRest*worked, mergeRest*worked)
	now, waiting = now.Add(3*busyFor), 0
	rests("one that served long ago", 0, 0)

	const step = mergeLate - mergeUsual
	for depth, merge := range map[int]time.Duration{
		mergeUsual + 1: worked * mergeRest * (step - 1) / step, mergeLate - 2: worked * mergeRest * 2 / step, mergeLate: 0, 2 * mergeLate: 0,
	} {
		setDepth(c, depth)
		serve(busyWork)
		setDepth(c, depth)
		rests("one whose merges are behind", removalRestMost*pause, merge)
	}
	c.watch(sights{})
	rests("one that ends", 0, 0)
}

// TestCourtesyAhead: where level 0 becomes deeper quickly merges do not rest although it is not deep yet, and what they take away does not hide that. A
// load that has ended is forgotten.
func TestCourtesyAhead(t *testing.T) {
	now, work, depth := time.Unix(1e9, 0), uint64(0), 0
	c := &courtesy{now: func() time.Time { return now }}
	c.watch(sights{work: func() uint64 { return work }, waiting: func() int { return busyWork }, depth: func() int { return depth }})
	look := func(times int, deeper func(i int) int) {
		for i := range times {
			now, work, depth = now.Add(busyLook+1), work+100, depth+deeper(i)
			c.look()
		}
	}
	const worked = time.Millisecond
	seconds := int(time.Second / busyLook)
	fill := func(i int) int { return min(i%5, 1) } // eight a second
	look(3*seconds, fill)
	depth = 1 // a merge is complete
	look(2, func(int) int { return 0 })
	if _, at, ahead := c.look(); at != 1 || ahead < mergeUsual || c.mergeRests(worked) >= mergeRest*worked {
		t.Errorf("with %d sublevels, eight more a second, %.1f are ahead and merges rest for %s", at, ahead, c.mergeRests(worked))
	}
	look(seconds, fill)
	if rest := c.mergeRests(worked); rest != 0 || !c.late() {
		t.Errorf("with %d sublevels, eight more a second, merges rest for %s (late: %t)", depth, rest, c.late())
	}
	depth = mergeUsual / 2
	look(5*seconds, func(int) int { return 0 })
	if rest := c.mergeRests(worked); rest != mergeRest*worked || c.late() {
		t.Errorf("after a load merges rest for %s (late: %t)", rest, c.late())
	}
}

func setDepth(c *courtesy, depth int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.member.depth = func() int { return depth }
	c.depth = depth
}

// TestCourtesyOfMerges: pieces too short for a rest of their own are rested for together, and what a rest took too long is made up for.
func TestCourtesyOfMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work := uint64(0)
		c := &courtesy{now: time.Now}
		c.watch(sights{work: func() uint64 { work++; return work }, waiting: func() int { return 0 }, depth: func() int { return 0 }})
		for range 2 * busyWork {
			c.look()
		}
		began, step := time.Now(), c.merge()
		const pieces, piece = 1000, 100 * time.Microsecond
		for range pieces {
			time.Sleep(piece)
			step()
		}
		took, wanted := time.Since(began), pieces*piece*(1+mergeRest)
		if took > wanted || took < wanted-restLeast {
			t.Errorf("%d pieces of %s and their rests took %s, not %s", pieces, piece, took, wanted)
		}
	})
}

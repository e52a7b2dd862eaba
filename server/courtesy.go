package server

import (
	"sync"
	"time"

	"holdfast/storage"
)

// courtesy holds up what has time while requests are served: the removal of old revisions, and the merges of tables. Go's scheduler knows no ranks: a put
// passes through half a dozen goroutines and may wait at each for whoever has the processor. So what has time works in pieces of a fraction
// of a millisecond and rests between them for a multiple of what the last piece took. Where processors are short a piece takes longer, and so does
// its rest.
type courtesy struct {
	now func() time.Time

	mu sync.Mutex // guards the fields below
	// member is what is looked at; its functions are nil, and nothing rests, before the member runs and when it ends.
	member sights
	// from is when the present look at the work began, before what was done until then.
	from   time.Time
	before uint64
	// until is when the member no longer counts as busy, if nothing comes.
	until time.Time
	// depth was that of level 0 at from, and growth how much deeper flushes made it in a second, lately.
	depth  int
	growth float64
}

// sights are what shows how busy a member is.
type sights struct {
	work    func() uint64 // grows with everything applied or read
	waiting func() int    // requests that wait
	depth   func() int    // sublevels of level 0
}

// A member is busy for busyFor after it did, or had waiting, busyWork requests within busyLook. To have nothing done for long is no sign of leisure by
// itself: it may be what being too busy looks like.
const (
	busyWork = 3
	busyLook = 100 * time.Millisecond
	busyFor  = time.Second
)

// mergeRest is how many times as long as it worked a merge rests: on two cores, an eighth of one of them is what half of the puts there can be make
// for it to do. Where more is written than merges can follow at that pace level 0 becomes deeper, and they rest less: from mergeUsual
// sublevels on, a quarter more than begin a merge, and not at all with mergeLate, half of what makes the store congested.
const (
	mergeRest  = 7
	mergeUsual = storage.SublevelsMerged * 5 / 4
	mergeLate  = storage.SublevelsCongested / 2
)

// A load can make level 0 deeper by 40 MB a second, so that it is full before one merge that rests is complete, and writers are held up by then.
// So where it grows by more than growthUsual sublevels a second, which merges that rest keep up with, what counts is how deep it will be after mergeAhead. The
// growth is taken over growthOver, in which such a load has several flushes.
const (
	growthUsual = storage.SublevelsMerged / 8.0
	growthOver  = time.Second
	mergeAhead  = 4 * time.Second
)

// removalRest is how many times as long as it worked the removal of old revisions rests, and removalRestMost how many times the configured pause at most. Each
// removal is written to tables and merged several times later, so it works for far more than itself.
const (
	removalRest     = 25
	removalRestMost = 8
)

// restLeast is the shortest rest: the runtime knows no shorter ones where it has nothing else to do.
const restLeast = time.Millisecond

// watch begins to look at a member, or ends it.
func (c *courtesy) watch(member sights) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.member = member
	c.from, c.until = time.Time{}, time.Time{}
}

// look tells whether the member is busy, how deep level 0 was not long ago, and how deep it is to be taken for by merges.
func (c *courtesy) look() (busy bool, depth int, ahead float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.member.work == nil {
		return false, 0, 0
	}
	now, work := c.now(), c.member.work()
	over := now.Sub(c.from) > busyLook
	if work-c.before >= busyWork && !over || over && c.member.waiting() >= busyWork {
		c.until = now.Add(busyFor)
	}
	if over {
		c.grow(c.member.depth(), now.Sub(c.from))
		c.from, c.before = now, work
	}
	return now.Before(c.until), c.depth, float64(c.depth) + max(0, c.growth-growthUsual)*mergeAhead.Seconds()
}

// grow takes in how deep level 0 is, some time after the last look. What merges took away meanwhile is no growth.
func (c *courtesy) grow(depth int, after time.Duration) {
	part := min(1, after.Seconds()/growthOver.Seconds())
	c.growth += part * (float64(max(0, depth-c.depth))/after.Seconds() - c.growth)
	c.depth = depth
}

// merge begins a merge, which calls step after each piece of its work.
func (c *courtesy) merge() (step func()) {
	began, owed := c.now(), time.Duration(0)
	return func() {
		worked := c.now().Sub(began)
		owed += c.mergeRests(worked)
		if owed >= restLeast {
			at := c.now()
			time.Sleep(owed)
			owed = max(-restLeast, owed-c.now().Sub(at))
		}
		began = c.now()
	}
}

// late tells that merges are so far behind, or soon going to be, that they do not rest although the member is busy.
func (c *courtesy) late() bool {
	_, _, ahead := c.look()
	return ahead >= mergeLate
}

func (c *courtesy) mergeRests(worked time.Duration) time.Duration {
	busy, _, ahead := c.look()
	if !busy {
		return 0
	}
	spare := min(max(mergeLate-ahead, 0), mergeLate-mergeUsual) / (mergeLate - mergeUsual)
	return time.Duration(float64(worked) * mergeRest * spare)
}

// removal is how long the removal of old revisions rests after a piece that it worked on for so long. pause is the configured rest, late tells that the next
// compaction waits already.
func (c *courtesy) removal(worked, pause time.Duration, late bool) time.Duration {
	busy, depth, _ := c.look()
	switch {
	case !busy:
		return 0
	case late:
		return pause
	case depth > mergeUsual:
		return removalRestMost * pause
	}
	return min(max(pause, removalRest*worked), removalRestMost*pause)
}

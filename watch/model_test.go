package watch

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"holdfast/kv"
)

var (
	seedFlag = flag.Uint64("watch.seed", 0, "replay the random test of this seed")
	runsFlag = flag.Int("watch.runs", 100, "how many random tests to run")
)

// TestModel lets clients do random things with streams of a hub that has next to no memory, and holds every response
// against a list of all events. What a watcher must get is the list from its start on, less what its range
// and filters leave out: nothing skipped, nothing repeated, revisions whole, and what is said of progress true. A
// stream is pulled only if it was woken.
func TestModel(t *testing.T) {
	if *seedFlag != 0 {
		newWorld(t, *seedFlag).run()
		return
	}
	base := uint64(time.Now().UnixNano())
	for i := range uint64(*runsFlag) {
		if newWorld(t, base+i).run(); t.Failed() {
			return
		}
	}
}

type world struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	history *history
	hub     *Hub
	clients []*client
	head    kv.Revision
	compact kv.Revision
	said    []string
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), history: newHistory(), head: 1, compact: -1}
	w.history.blockBytes = []int{1, 60, 200, 1000, 0}[w.rnd.IntN(5)]
	for range w.rnd.IntN(10) {
		w.history.apply(w.ops()...)
	}
	w.hub = New(Config{
		LogBytes:      []int{0, 700, 2000, 6000, 20000, 1 << 20}[w.rnd.IntN(6)],
		FragmentBytes: 130 + w.rnd.IntN(300),
		History:       w.history,
	})
	w.setHead()
	for range 1 + w.rnd.IntN(4) {
		w.connect()
	}
	return w
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.said[max(0, len(w.said)-sayMax):] {
		w.t.Log(line)
	}
	w.t.Fatalf("seed %d: %s", w.seed, fmt.Sprintf(format, args...))
}

func (w *world) sayf(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *world) run() {
	pull := 1 + w.rnd.IntN(12) // how eagerly clients read
	for range 250 {
		w.act(pull)
	}
	for _, c := range w.clients {
		c.drain()
		c.checkComplete()
	}
	checkNothingKept(w.t, w.hub)
	for _, c := range w.clients {
		c.checkProgress()
		if c.stream.Close(); c.stream.Pending() > 0 {
			w.failf("answers left on closed stream %d", c.name)
		}
	}
	if st := w.hub.Stats(); st.Streams+st.Watchers+st.Groups+st.LaggingWatchers > 0 || w.hub.index.ranges.n > 0 {
		w.failf("left after the end: %+v", st)
	}
}

func (w *world) act(pull int) {
	c := w.clients[w.rnd.IntN(len(w.clients))]
	switch n := w.rnd.IntN(20 + pull); {
	case n < 7:
		w.append()
	case n < 10:
		c.create()
	case n < 12:
		c.cancel()
	case n < 13:
		c.sayf("progress?")
		c.stream.RequestProgress()
	case n < 14:
		c.sayf("tick")
		c.stream.Tick()
	case n < 15:
		if to := w.compact + kv.Revision(w.rnd.IntN(6)); to <= w.head && to > w.compact {
			w.sayf("compact %d", to)
			w.compact = to
			w.history.compact(to)
		}
	case n < 16 && w.rnd.IntN(3) == 0:
		for range w.rnd.IntN(5) {
			w.history.apply(w.ops()...)
		}
		w.setHead()
	case n < 17 && w.rnd.IntN(4) == 0:
		w.history.fail = errFire
	case n < 18 && w.rnd.IntN(10) == 0:
		c.sayf("close")
		c.stream.Close()
		c.closed = true
		if _, ok, err := c.stream.Next(100); ok || err != nil {
			w.failf("closed stream gave something")
		}
		w.clients = slices.DeleteFunc(w.clients, func(o *client) bool { return o == c })
		w.connect()
	case n >= 20:
		c.pull()
	}
}

// sayMax is how much of what happened a failure shows.
const sayMax = 60

var errFire = errors.New("fire")

func (w *world) setHead() {
	w.head = w.history.rev
	w.sayf("set head %d", w.head)
	w.hub.SetHead(w.head)
}

func (w *world) append() {
	var changes []kv.Change
	for range 1 + w.rnd.IntN(3) {
		c := w.history.apply(w.ops()...)
		w.sayf("apply %d %d events", c.Revision, len(c.Events))
		if w.rnd.IntN(12) == 0 {
			c.Large, c.Events = true, nil
		}
		if w.rnd.IntN(3) == 0 { // whether or not somebody wants it: the writer asks before it begins
			c = bare(c)
		}
		changes = append(changes, c)
	}
	w.head = w.history.rev
	w.hub.Append(changes)
}

// ops makes the operations of one revision; no key comes twice.
func (w *world) ops() []op {
	n := 1
	if w.rnd.IntN(4) == 0 {
		n = 1 + w.rnd.IntN(len(keys))
	}
	var ops []op
	for _, i := range w.rnd.Perm(len(keys))[:n] {
		o := op{key: keys[i]}
		if _, there := w.history.current[o.key]; !there || w.rnd.IntN(3) > 0 {
			o.value = string(bytes.Repeat([]byte{'v'}, 1+w.rnd.IntN(60)))
		}
		ops = append(ops, o)
	}
	return ops
}

var keys = []string{"a", "ab", "b", "ba", "c", "d", "da", "e", "f", "\xff", "\x01"}

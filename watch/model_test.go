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

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

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

// client is one stream as its client sees it.
type client struct {
	w      *world
	name   int
	stream *Stream
	closed bool
	awake  bool // wake was called and Next has not returned nothing since
	// asked are the requests not answered yet, in order.
	asked    []*watch
	last     kv.WatchCreate
	canceled map[int64]int // cancels sent for an id, not answered
	watches  map[int64]*watch
	// open is the watch that has got some fragments of an answer.
	open *watch
}

// watch is one watch as its client sees it.
type watch struct {
	req  kv.WatchCreate
	id   int64 // once created
	next kv.Rev
	// newest is the newest revision the client knows of, from events or progress.
	newest  kv.Revision
	created bool
	ended   bool // by a compaction
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

func (w *world) connect() {
	c := &client{w: w, name: w.rnd.IntN(1000), watches: make(map[int64]*watch), canceled: make(map[int64]int)}
	c.stream = w.hub.NewStream(func() {
		if c.awake {
			w.failf("stream %d woken twice", c.name)
		}
		c.awake = true
	})
	w.clients = append(w.clients, c)
}

func (c *client) sayf(format string, args ...any) {
	c.w.sayf("stream %d: %s", c.name, fmt.Sprintf(format, args...))
}

func (c *client) create() {
	rnd := c.w.rnd
	bit := func(n int) bool { return rnd.IntN(n) == 0 }
	q := kv.WatchCreate{
		PrevKV: bit(2), Fragment: bit(2), ProgressNotify: bit(2), NoPut: bit(6), NoDelete: bit(6),
		KeyRange: kv.KeyRange{Key: []byte(keys[rnd.IntN(len(keys))])},
	}
	switch rnd.IntN(4) {
	case 0:
		q.End = []byte(keys[rnd.IntN(len(keys))])
	case 1:
		q.End = []byte{0}
	case 2:
		q.Key, q.End = nil, []byte{0}
	}
	switch rnd.IntN(4) {
	case 0:
		q.Start = kv.Revision(rnd.IntN(int(c.w.head) + 1))
	case 1:
		q.Start = c.w.head + kv.Revision(rnd.IntN(5)) - 2
	}
	if len(c.last.Key) > 0 && bit(2) { // of the same group as the one before
		q.KeyRange, q.PrevKV, q.Fragment, q.NoPut, q.NoDelete = c.last.KeyRange, c.last.PrevKV, c.last.Fragment, c.last.NoPut, c.last.NoDelete
	}
	c.last = q
	if bit(4) {
		q.ID = int64(rnd.IntN(6))
	}
	watch := &watch{req: q, next: kv.Rev{Main: q.Start}}
	if q.Start == 0 {
		watch.next.Main = c.w.head + 1
	}
	c.sayf("create %+v", q)
	c.asked = append(c.asked, watch)
	c.stream.Create(&q)
}

func (c *client) cancel() {
	id := int64(c.w.rnd.IntN(8))
	c.sayf("cancel %d", id)
	known := c.stream.watchers[id] != nil
	c.stream.Cancel(id)
	if known { // the client may not have seen its creation yet
		c.canceled[id]++
	}
}

// pull takes responses as long as the stream was woken, or some of them.
func (c *client) pull() {
	for range 1 + c.w.rnd.IntN(6) {
		if !c.awake || !c.one() {
			return
		}
	}
}

func (c *client) drain() {
	for c.awake {
		c.one()
	}
}

func (c *client) one() bool {
	r, ok, err := c.stream.Next(1 + c.w.rnd.IntN(1500))
	switch {
	case errors.Is(err, errFire):
		return true
	case err != nil:
		c.w.failf("next: %v", err)
	case !ok:
		c.awake = false
		return false
	}
	m := decode(r)
	c.sayf("got %s", show(r))
	if r.Revision > c.w.head {
		c.w.failf("revision %d beyond the head %d", r.Revision, c.w.head)
	}
	if c.open != nil && m.WatchId != c.open.id {
		c.w.failf("answer for %d amid fragments for %d", m.WatchId, c.open.id)
	}
	switch {
	case m.Created:
		c.onCreated(m)
	case m.Canceled:
		c.onCanceled(m)
	case len(m.Events) > 0:
		c.onEvents(m)
	default:
		c.onProgress(m)
	}
	return true
}

func (c *client) onCreated(m *pb.WatchResponse) {
	watch := c.asked[0]
	c.asked = c.asked[1:]
	if m.Canceled {
		_, taken := c.watches[watch.req.ID]
		fine := m.WatchId == NoID
		switch m.CancelReason {
		case reasonCompacted:
			fine = fine && watch.req.Start < 0
		case reasonEmptyRange:
			fine = fine && watch.req.IsEmpty()
		case reasonDuplicate:
			fine = fine && taken
		default:
			fine = false
		}
		if !fine {
			c.w.failf("refused %+v for %q", watch.req, m.CancelReason)
		}
		return
	}
	if c.watches[m.WatchId] != nil || (watch.req.ID != 0 && m.WatchId != watch.req.ID) || watch.req.IsEmpty() || watch.req.Start < 0 {
		c.w.failf("created %d for %+v", m.WatchId, watch.req)
	}
	watch.id, watch.created = m.WatchId, true
	c.watches[m.WatchId] = watch
}

func (c *client) onCanceled(m *pb.WatchResponse) {
	watch := c.watches[m.WatchId]
	if watch == nil || m.CancelReason != "" {
		c.w.failf("canceled what is not watched")
	}
	c.open = nil
	if m.CompactRevision == 0 {
		if c.canceled[m.WatchId]--; c.canceled[m.WatchId] < 0 {
			c.w.failf("canceled for nothing")
		}
		delete(c.watches, m.WatchId)
		return
	}
	// The list says what the watcher still had to get: its place may be anywhere up to that.
	if m.Header.Revision != 0 || kv.Revision(m.CompactRevision) > c.w.compact || watch.ended {
		c.w.failf("canceled for a compaction at %d, which is at %d", m.CompactRevision, c.w.compact)
	}
	if watch.next.Main >= kv.Revision(m.CompactRevision) {
		c.w.failf("canceled at %s for a compaction at %d", watch.next, m.CompactRevision)
	}
	watch.ended = true
}

// due gives the events that watch still has to get, up to the head.
func (c *client) due(watch *watch) []kv.Event {
	span := watch.req.KeyRange
	if len(span.Key) == 0 {
		span.Key = []byte{0}
	}
	var due []kv.Event
	for i := max(0, watch.next.Main-2); i < c.w.head-1; i++ {
		for _, e := range c.w.history.changes[i].Events {
			filtered := (e.Type == kv.EventPut && watch.req.NoPut) || (e.Type == kv.EventDelete && watch.req.NoDelete)
			if !e.Rev.Less(watch.next) && span.Contains(e.Key) && !filtered {
				due = append(due, e)
			}
		}
	}
	return due
}

func (c *client) onEvents(m *pb.WatchResponse) {
	watch := c.watches[m.WatchId]
	if watch == nil || watch.ended {
		c.w.failf("events for what is not watched")
	}
	due := c.due(watch)
	if len(due) < len(m.Events) {
		c.w.failf("%d events where %d are due", len(m.Events), len(due))
	}
	for i, got := range m.Events {
		c.checkEvent(watch, got, &due[i])
	}
	last := due[len(m.Events)-1].Rev
	watch.next = kv.Rev{Main: last.Main, Sub: last.Sub + 1}
	watch.newest = last.Main
	c.open = nil
	if m.Fragment {
		if !watch.req.Fragment {
			c.w.failf("fragment for who did not ask")
		}
		c.open = watch
		return
	}
	if rest := due[len(m.Events):]; len(rest) > 0 && rest[0].Rev.Main <= kv.Revision(m.Header.Revision) {
		c.w.failf("answer of revision %d without event %s", m.Header.Revision, rest[0].Rev)
	}
	if last.Main > kv.Revision(m.Header.Revision) {
		c.w.failf("event %s in an answer of revision %d", last, m.Header.Revision)
	}
}

func (c *client) checkEvent(watch *watch, got *mvccpb.Event, due *kv.Event) {
	want := &mvccpb.Event{Type: mvccpb.Event_EventType(due.Type), Kv: new(mvccpb.KeyValue)}
	if err := proto.Unmarshal(due.KV, want.Kv); err != nil {
		c.w.t.Fatal(err)
	}
	lost := due.Rev.Main-1 < c.w.compact && got.PrevKv == nil
	if watch.req.PrevKV && due.Prev != nil && !lost {
		want.PrevKv = new(mvccpb.KeyValue)
		if err := proto.Unmarshal(due.Prev, want.PrevKv); err != nil {
			c.w.t.Fatal(err)
		}
	}
	if !proto.Equal(got, want) {
		c.w.failf("watch %d got event %v where %v is due", watch.id, got, want)
	}
}

func (c *client) onProgress(m *pb.WatchResponse) {
	rev := kv.Revision(m.Header.Revision)
	if m.WatchId != NoID {
		watch := c.watches[m.WatchId]
		if watch == nil || !watch.req.ProgressNotify {
			c.w.failf("progress of %d", m.WatchId)
		}
		c.checkLevel(watch, rev)
		return
	}
	for _, watch := range c.watches {
		if !watch.ended {
			c.checkLevel(watch, rev)
		}
	}
}

// checkLevel checks that watch has got everything up to rev and nothing beyond, and that its start is reached.
func (c *client) checkLevel(watch *watch, rev kv.Revision) {
	if c.canceled[watch.id] > 0 {
		return // what was not delivered before the cancel is not any more
	}
	if due := c.due(watch); len(due) > 0 && due[0].Rev.Main <= rev {
		c.w.failf("progress to %d, but event %s is due on %d", rev, due[0].Rev, watch.id)
	}
	if rev < watch.newest || rev < watch.req.Start {
		c.w.failf("progress to %d on %d, which had %d and started at %d", rev, watch.id, watch.newest, watch.req.Start)
	}
	watch.newest = rev
}

// checkComplete checks that a stream with nothing to pull has delivered everything.
func (c *client) checkComplete() {
	if len(c.asked) > 0 || c.open != nil {
		c.w.failf("stream %d: unanswered requests", c.name)
	}
	for id, watch := range c.watches {
		if due := c.due(watch); len(due) > 0 && !watch.ended {
			c.w.failf("stream %d is done, but event %s is due on %d", c.name, due[0].Rev, id)
		}
	}
}

// checkProgress asks for progress where everything is level: it must be told.
func (c *client) checkProgress() {
	want := false
	for _, watch := range c.watches {
		if !watch.ended {
			want = true
		}
	}
	for _, watch := range c.watches {
		if !watch.ended && watch.req.Start > c.w.head {
			want = false
		}
	}
	c.stream.RequestProgress()
	r, ok, err := c.stream.Next(1)
	if err != nil || ok != want || (ok && (r.WatchID != NoID || r.Revision != c.w.head)) {
		c.w.failf("stream %d: progress %v %v %v, want %v", c.name, r, ok, err, want)
	}
	if ok {
		c.awake = false
		c.stream.Next(1)
	}
}

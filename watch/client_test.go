package watch

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"holdfast/kv"
)

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
		q.KeyRange, q.PrevKV, q.Fragment = c.last.KeyRange, c.last.PrevKV, c.last.Fragment
		q.NoPut, q.NoDelete = c.last.NoPut, c.last.NoDelete
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
	wrongID := c.watches[m.WatchId] != nil || (watch.req.ID != 0 && m.WatchId != watch.req.ID)
	if wrongID || watch.req.IsEmpty() || watch.req.Start < 0 {
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

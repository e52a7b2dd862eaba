package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/kv"
)

// These tests count instead of timing: what must not grow with the number of watchers.

// crowd opens streams with watchers each, all of the same range.
func crowd(hub *Hub, streams, watchers int, q kv.WatchCreate) (all []*Stream, wakes *int) {
	wakes = new(int)
	for range streams {
		s := hub.NewStream(func() { *wakes++ })
		for range watchers {
			s.Create(&q)
		}
		all = append(all, s)
	}
	return all, wakes
}

// drainAll pulls everything and gives the number of events and of responses.
func drainAll(t *testing.T, streams []*Stream) (events, responses int) {
	t.Helper()
	for _, s := range streams {
		for {
			r, ok, err := s.Next(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			events += len(r.Events)
			responses++
		}
	}
	return events, responses
}

func single(key string) kv.WatchCreate {
	return kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte(key)}}
}

// TestSharing: ten thousand watchers of one key on a hundred streams. An event is matched once, encoded once, wakes
// each stream once, and all get the same bytes.
func TestSharing(t *testing.T) {
	history := newHistory()
	hub := New(Config{LogBytes: 1 << 20, FragmentBytes: 1 << 20, History: history})
	streams, wakes := crowd(hub, 100, 100, single("k"))
	drainAll(t, streams)
	*wakes = 0
	hub.Append([]kv.Change{history.apply(op{"k", "1"}), history.apply(op{"other", "1"}), history.apply(op{"k", "2"})})
	if *wakes != 100 {
		t.Errorf("%d wakes of 100 streams", *wakes)
	}
	first, _, _ := streams[0].Next(1 << 20)
	last, _, _ := streams[99].Next(1 << 20)
	if &first.Events[0][0] != &last.Events[0][0] {
		t.Error("two streams got two encodings")
	}
	if events, _ := drainAll(t, streams); events != 2*10000-4 {
		t.Errorf("%d events delivered", events)
	}
	st := hub.Stats()
	if st.Matches != 2 || st.Encodings != 2 || st.Groups != 1 || st.HistoryReads != 0 || st.Events != 20000 {
		t.Errorf("%+v", st)
	}
}

// TestIdleWatchersCostNothing: what is not concerned is not touched, and a stream that does not pull is woken once
// and not touched again.
func TestIdleWatchersCostNothing(t *testing.T) {
	history := newHistory()
	hub := New(Config{LogBytes: 1 << 20, FragmentBytes: 1 << 20, History: history})
	idle, idleWakes := crowd(hub, 100, 10, single("other"))
	slow, slowWakes := crowd(hub, 100, 10, single("k"))
	fast, _ := crowd(hub, 1, 1, single("k"))
	drainAll(t, slices.Concat(idle, slow, fast))
	*idleWakes, *slowWakes = 0, 0
	for range 50 {
		hub.Append([]kv.Change{history.apply(op{"k", "1"})})
		if events, _ := drainAll(t, fast); events != 1 {
			t.Errorf("%d events for one that pulls at once", events)
		}
	}
	if *idleWakes != 0 || *slowWakes != 100 {
		t.Errorf("%d and %d wakes, want 0 and 100", *idleWakes, *slowWakes)
	}
	if st := hub.Stats(); st.Matches != 50 || st.Encodings != 50 || st.Pending != 50*1000 || st.SlowWatchers != 0 {
		t.Errorf("%+v", st)
	}
	// What waited comes in one response for each watcher.
	if events, responses := drainAll(t, slow); events != 50*1000 || responses != 1000 {
		t.Errorf("%d events in %d responses", events, responses)
	}
}

// TestTurns: on a stream that always has something new, a watcher that is behind gets on; and the new does not wait
// for it.
func TestTurns(t *testing.T) {
	history := newHistory()
	history.blockBytes = 100
	hub := New(Config{LogBytes: 2000, FragmentBytes: 1 << 20, History: history})
	for range 100 {
		hub.Append([]kv.Change{history.apply(op{"old", "1"})})
	}
	streams, _ := crowd(hub, 1, 1, single("k"))
	streams[0].Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("old")}, Start: 2})
	got := make(map[int64]int)
	for i := range 300 {
		hub.Append([]kv.Change{history.apply(op{"k", "1"})})
		r, ok, err := streams[0].Next(1 << 20)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		got[r.WatchID] += len(r.Events)
		if i == 150 && (got[0] < 50 || got[1] < 100) {
			t.Errorf("half way: %v events by watch", got)
		}
	}
}

// TestMemory: however many watchers do not pull, the log keeps to its size, hits included, and one that is past pulling
// costs nothing more.
func TestMemory(t *testing.T) {
	const limit = 100_000
	history := newHistory()
	hub := New(Config{LogBytes: limit, FragmentBytes: 1 << 20, History: history})
	var streams []*Stream
	for i := range 200 {
		s := hub.NewStream(func() {})
		for j := range 10 { // of a group of its own each
			s.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("k"), End: fmt.Appendf(nil, "l%d", 10*i+j)}})
		}
		streams = append(streams, s)
	}
	drainAll(t, streams)
	for range 200 {
		hub.Append([]kv.Change{history.apply(op{"k", "some value"})})
		if st := hub.Stats(); st.LogBytes > limit {
			t.Fatalf("log of %d bytes", st.LogBytes)
		}
	}
	hits := 0
	for _, g := range hub.groups {
		hits += len(g.hits)
	}
	if hits*hitBytes > limit {
		t.Errorf("%d hits kept", hits)
	}
	if events, _ := drainAll(t, streams); events != 200*2000 {
		t.Errorf("%d events delivered", events)
	}
	checkNothingKept(t, hub)
}

// TestTold: what nobody waits for takes an eighth of the log, whether anybody watches or not. What a watcher has still to pull may take all of it, and
// one that asks for what is gone receives it none the less.
func TestTold(t *testing.T) {
	const limit, events = 80_000, 1000
	history := newHistory()
	hub := New(Config{LogBytes: limit, FragmentBytes: 1 << 20, History: history})
	appendMany := func(each func()) (most int) {
		for range events {
			hub.Append([]kv.Change{history.apply(op{"k", "some value"})})
			each()
			most = max(most, hub.Stats().LogBytes)
		}
		return most
	}
	nothing := func() {}
	const share = limit / toldShare
	if most := appendMany(nothing); most > share || most < share/2 {
		t.Errorf("up to %d bytes without a watcher", most)
	}
	s := hub.NewStream(func() {})
	s.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("k")}, Start: 2})
	pulled := 0
	pull := func() {
		got, _ := drainAll(t, []*Stream{s})
		pulled += got
	}
	pull()
	// The block that is filled comes on top: who waits for what is looked at when one is begun.
	if most := appendMany(pull); most > 2*share+itemBytes || most < share/2 {
		t.Errorf("up to %d bytes with a watcher that pulls all", most)
	}
	if most := appendMany(nothing); most > limit || most < limit/2 {
		t.Errorf("up to %d bytes with one that pulls nothing", most)
	}
	if most := appendMany(pull); most > limit || hub.Stats().LogBytes > 2*share+itemBytes {
		t.Errorf("%d bytes, up to %d, with one that has begun to pull", hub.Stats().LogBytes, most)
	}
	if pulled != 4*events {
		t.Errorf("%d events delivered", pulled)
	}
}

// TestSlowKeepsLog: what one of several has still to pull is in the log, however far the others are.
func TestSlowKeepsLog(t *testing.T) {
	const events = 100
	history := newHistory()
	hub := New(Config{LogBytes: 2 * events * (itemBytes + 200), FragmentBytes: 1 << 20, History: history})
	var streams []*Stream
	for range 3 {
		s := hub.NewStream(func() {})
		s.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("k")}})
		streams = append(streams, s)
	}
	drainAll(t, streams)
	for range events {
		hub.Append([]kv.Change{history.apply(op{"k", "some value"})})
		drainAll(t, streams[1:])
	}
	if got, _ := drainAll(t, streams[:1]); got != events || hub.Stats().HistoryReads > 0 {
		t.Errorf("the slow one received %d events, with %d reads of the history", got, hub.Stats().HistoryReads)
	}
	checkNothingKept(t, hub)
}

// checkNothingKept looks for references from what is at rest to what the log has forgotten.
func checkNothingKept(t *testing.T, hub *Hub) {
	for _, g := range hub.groups {
		if g.listed != nil && !slices.Contains(hub.log.blocks, g.listed) {
			t.Fatal("a group keeps a forgotten block")
		}
		if len(g.hits) > 0 || cap(g.hits) > hitsKeep {
			t.Fatalf("a group at rest keeps %d hits of %d", len(g.hits), cap(g.hits))
		}
	}
	for _, s := range hub.streams {
		if s.hand != nil || s.batch.items != nil || s.source.view.items != nil || s.source.view.sealed != nil {
			t.Fatal("a stream at rest keeps a block")
		}
		for _, it := range s.scratch[:cap(s.scratch)] {
			if it != nil {
				t.Fatal("a stream at rest keeps an item")
			}
		}
	}
}

// TestChurn: watches that come and go leave nothing behind, with nobody asking for progress.
func TestChurn(t *testing.T) {
	hub := New(Config{LogBytes: 1 << 20, FragmentBytes: 1 << 20, History: newHistory()})
	s := hub.NewStream(func() {})
	for range 1000 {
		s.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("k")}, ID: 1, Start: 100, ProgressNotify: true})
		s.Cancel(1)
		drainAll(t, []*Stream{s})
	}
	if n := len(s.notified) + len(s.future) + len(s.watchers) + len(s.cursors) + len(s.live) + len(hub.groups); n > 50 {
		t.Errorf("%d things left", n)
	}
}

// backlog makes revisions of a kilobyte each, and tells how many blocks of the history they are.
func backlog(hub *Hub, history *history, revisions int) (blocks int64) {
	value := strings.Repeat("v", 1000)
	for i := range revisions {
		hub.Append([]kv.Change{history.apply(op{fmt.Sprintf("k%d", i%7), value})})
	}
	for at := (kv.Rev{Main: 2}); at.Main <= history.rev; blocks++ {
		_, at, _ = history.Events(at, history.rev, blockBytes, false)
	}
	return blocks
}

// sideBySide lets each stream pull one response at a time, in turns, and gives the number of events.
func sideBySide(t *testing.T, streams []*Stream) (events int) {
	for busy := true; busy; {
		busy = false
		for _, s := range streams {
			r, ok, err := s.Next(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			events += len(r.Events)
			busy = busy || ok
		}
	}
	return events
}

// TestSharedReads: five hundred watchers on ten streams have fallen behind by the same revisions. They read them once.
func TestSharedReads(t *testing.T) {
	const revisions = 12000
	history := newHistory()
	hub := New(Config{LogBytes: 0, FragmentBytes: 1 << 20, History: history})
	streams, _ := crowd(hub, 10, 50, kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("k"), End: []byte("l")}})
	drainAll(t, streams)
	blocks := backlog(hub, history, revisions)
	if events := sideBySide(t, streams); events != revisions*500 {
		t.Errorf("%d events delivered", events)
	}
	if reads := hub.Stats().HistoryReads; reads != blocks {
		t.Errorf("%d reads of %d blocks", reads, blocks)
	}
	if st := hub.Stats(); st.Encodings != revisions {
		t.Errorf("%d encodings of %d events", st.Encodings, revisions)
	}
}

// TestSharedReadsOfManyStarts: a stream comes back, as after a restart, with watchers that start all over the history.
// What lies between the first start and the head is read once, and a second time at most where the last of them need
// not wait for the first.
func TestSharedReadsOfManyStarts(t *testing.T) {
	const revisions, watchers = 20000, 400
	history := newHistory()
	hub := New(Config{LogBytes: 0, FragmentBytes: 1 << 20, History: history})
	blocks := backlog(hub, history, revisions)
	s := hub.NewStream(func() {})
	for i := range watchers {
		q := single(fmt.Sprintf("k%d", i%7))
		q.Start = kv.Revision(2 + i*revisions/watchers)
		s.Create(&q)
	}
	drainAll(t, []*Stream{s})
	near := int64(nearRevisions * blocks / revisions)
	if reads := hub.Stats().HistoryReads; reads > blocks+2*near {
		t.Errorf("%d reads of %d blocks, %d of them near the head", reads, blocks, near)
	}
}

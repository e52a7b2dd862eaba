package sim

import (
	"bytes"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/watch"
)

const (
	watchersPerRun = 6
	watchBytes     = 2 << 10
)

// watcher follows a range of keys through crashes: it comes back with the revision it has not seen yet. It knows from the
// judge what it must be told: each change of its range once, in order, revisions whole, and no progress that is not true.
type watcher struct {
	w    *world
	id   int
	span kv.KeyRange
	prev bool
	only string        // "puts", "deletes", or empty for both
	pace time.Duration // up to this passes before it pulls

	life    *life // the member it is connected to; nil for none
	stream  *watch.Stream
	pulling bool
	next    kv.Revision // everything before it was told; 0 before the first answer
	got     int
}

func newWatcher(w *world, id int) *watcher {
	wt := &watcher{w: w, id: id, prev: w.chance(50), pace: w.between(0, 5*time.Millisecond)}
	wt.span = kv.KeyRange{Key: []byte("k"), End: []byte("l")}
	switch id % 3 {
	case 1:
		wt.span = kv.KeyRange{Key: []byte("k03"), End: []byte("k09")}
	case 2:
		wt.span = kv.KeyRange{Key: []byte("k05")}
	}
	if w.chance(30) {
		wt.only = []string{"puts", "deletes"}[w.rnd.IntN(2)]
	}
	if w.chance(40) {
		wt.pace = w.between(0, 3*time.Second) // falls behind the log
	}
	return wt
}

// connect makes a stream at some member that runs.
func (wt *watcher) connect() {
	m := wt.w.members[wt.w.rnd.IntN(len(wt.w.members))]
	if !m.serves() || m.life.ended {
		wt.w.after(wt.w.between(0, 500*time.Millisecond), wt.connect)
		return
	}
	wt.life = m.life
	stream := m.life.hub.NewStream(wt.wake)
	wt.stream = stream
	wt.w.note("watcher %d at %s from revision %d", wt.id, m, wt.next)
	stream.Create(&kv.WatchCreate{
		KeyRange: wt.span, Start: wt.next, PrevKV: wt.prev, NoPut: wt.only == "deletes", NoDelete: wt.only == "puts",
		ProgressNotify: wt.w.chance(50),
	})
	wt.w.every(700*time.Millisecond, func() bool { return wt.still(stream) && wt.idle(stream) })
	wt.w.after(wt.w.between(2*time.Second, 15*time.Second), func() {
		if wt.still(stream) && !wt.w.calm {
			stream.Close()
			wt.lose()
		}
	})
}

func (wt *watcher) still(s *watch.Stream) bool { return wt.stream == s && !wt.life.ended }

// idle is what happens at intervals.
func (wt *watcher) idle(s *watch.Stream) bool {
	if wt.life.pausedUntil <= wt.w.now {
		s.Tick()
		if wt.w.chance(50) {
			s.RequestProgress()
		}
		if slip := wt.w.slips.idle; slip != nil {
			slip(wt)
		}
	}
	return true
}

// lose ends the connection.
func (wt *watcher) lose() {
	wt.life, wt.stream, wt.pulling = nil, nil, false
	wt.w.counts["watches resumed"]++
	wt.w.after(wt.w.between(0, time.Second), wt.connect)
}

// wake plans to pull. It may be called while a member applies.
func (wt *watcher) wake() {
	if wt.pulling || wt.stream == nil {
		return
	}
	wt.pulling = true
	stream := wt.stream
	pace := wt.pace
	if wt.w.calm {
		pace = min(pace, 100*time.Millisecond)
	}
	wt.w.after(wt.w.between(0, pace), func() { wt.pull(stream) })
}

func (wt *watcher) pull(stream *watch.Stream) {
	if !wt.still(stream) {
		return
	}
	if until := wt.life.pausedUntil; until > wt.w.now {
		wt.w.after(until-wt.w.now, func() { wt.pull(stream) })
		return
	}
	wt.pulling = false
	for range 4 {
		r, ok, err := stream.Next(watchBytes)
		if err != nil {
			wt.w.fail("watcher %d at %s: %v", wt.id, wt.life.member, err)
		}
		if !ok {
			return
		}
		if !wt.take(&r) {
			return
		}
	}
	wt.wake()
}

// take judges one answer. It reports false if the connection is over.
func (wt *watcher) take(r *watch.Response) bool {
	w := wt.w
	switch {
	case r.Canceled:
		if r.CompactRevision == 0 || wt.next >= r.CompactRevision || r.CompactRevision > w.judge.now.compacted {
			w.fail("watcher %d at revision %d was canceled: compacted %d, reason %q", wt.id, wt.next, r.CompactRevision, r.CancelReason)
		}
		w.counts["watches overtaken by a compaction"]++
		wt.next = r.CompactRevision
		wt.stream.Close()
		wt.lose()
		return false
	case r.Created:
		if wt.next == 0 {
			wt.next = r.Revision + 1
		}
	case len(r.Events) == 0:
		w.counts["progress answers"]++
		wt.complete(r.Revision, "a progress answer")
	default:
		wt.events(r)
		wt.complete(r.Revision, "the header of its events")
	}
	return true
}

// complete asks that nothing up to a revision is missing that an answer says was all told.
func (wt *watcher) complete(rev kv.Revision, who string) {
	if rev > wt.w.judge.now.revision {
		wt.w.fail("watcher %d: %s tells of revision %d, the newest is %d", wt.id, who, rev, wt.w.judge.now.revision)
	}
	for ; wt.next <= rev; wt.next++ {
		if missing := wt.due(wt.next); len(missing) > 0 {
			wt.w.fail("watcher %d at %s: %s says that everything up to revision %d was told, but not %s of revision %d",
				wt.id, wt.life.member, who, rev, showKey(missing[0].now), wt.next)
		}
	}
}

// due are the changes of a revision that the watcher wants.
func (wt *watcher) due(rev kv.Revision) []change {
	var due []change
	for _, c := range wt.w.judge.changes[rev] {
		if wt.span.Contains(c.now.Key) && !(c.deleted && wt.only == "puts") && !(!c.deleted && wt.only == "deletes") {
			due = append(due, c)
		}
	}
	return due
}

// events holds events against what must come next. A revision comes as a whole.
func (wt *watcher) events(r *watch.Response) {
	got := wt.decode(r)
	for len(got) > 0 {
		rev := kv.Revision(got[0].Kv.ModRevision)
		if rev > wt.w.judge.now.revision || rev < wt.next {
			wt.w.fail("watcher %d was told of revision %d, is at %d, the newest is %d", wt.id, rev, wt.next, wt.w.judge.now.revision)
		}
		wt.complete(rev-1, "a later event")
		due := wt.due(rev)
		if len(got) < len(due) {
			wt.w.fail("watcher %d got %d of the %d changes of revision %d", wt.id, len(got), len(due), rev)
		}
		for i := range due {
			wt.compare(got[i], &due[i])
		}
		got, wt.next = got[len(due):], rev+1
		wt.got += len(due)
		wt.w.counts["events"] += len(due)
		if len(due) == 0 {
			wt.w.fail("watcher %d was told of revision %d, which has nothing for it", wt.id, rev)
		}
	}
}

func (wt *watcher) decode(r *watch.Response) []*mvccpb.Event {
	var events []*mvccpb.Event
	for _, frame := range r.Events {
		for len(frame) > 0 {
			_, _, tag := protowire.ConsumeTag(frame)
			body, n := protowire.ConsumeBytes(frame[max(tag, 0):])
			e := new(mvccpb.Event)
			if tag < 0 || n < 0 || proto.Unmarshal(body, e) != nil {
				wt.w.fail("watcher %d got %x, which is no event", wt.id, frame)
			}
			events, frame = append(events, e), frame[tag+n:]
		}
	}
	return events
}

func (wt *watcher) compare(got *mvccpb.Event, want *change) {
	deleted := got.Type == mvccpb.Event_DELETE
	same := deleted == want.deleted && showProto(got.Kv) == showKey(want.now) && bytes.Equal(got.Kv.Value, want.now.Value)
	if got.PrevKv != nil {
		same = same && wt.prev && showProto(got.PrevKv) == showKey(want.prev)
	} else if wt.prev && want.prev.Version > 0 {
		same = same && want.now.Mod-1 < wt.w.judge.now.compacted+1 // the revision before may be gone
	}
	if !same {
		wt.w.fail("watcher %d got %v %s before %s, it should be %+v", wt.id, got.Type, showProto(got.Kv), showProto(got.PrevKv), *want)
	}
}

func showProto(m *mvccpb.KeyValue) string {
	return showKey(kv.KeyValue{
		Key: m.GetKey(), Value: m.GetValue(), Create: kv.Revision(m.GetCreateRevision()), Mod: kv.Revision(m.GetModRevision()),
		Version: m.GetVersion(), Lease: kv.LeaseID(m.GetLease()),
	})
}

// finish asks that the watcher was told everything.
func (wt *watcher) finish() {
	if wt.stream == nil {
		wt.w.fail("watcher %d has no connection at the end", wt.id)
	}
	wt.complete(wt.w.judge.now.revision, "the end of the run")
}

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/transport"
	"holdfast/watch"
)

// quickRelease has members make their stores durable, and release their logs, every moment.
func quickRelease(_ int, cfg *Config) {
	cfg.Memory.FlushBytes, cfg.UpkeepInterval = 1<<10, 50*time.Millisecond
}

// watching is a client's watch of the keys that begin with w/.
type watching struct {
	stream *watch.Stream
	woken  chan struct{}
	seen   []kv.Revision // one for each event
	ended  kv.Revision   // the compacted revision that ended it; 0 while it goes on
}

func (m *member) watching(from kv.Revision) *watching {
	w := &watching{woken: make(chan struct{}, 1)}
	w.stream = m.hub.NewStream(func() { poke(w.woken) })
	m.t.Cleanup(w.stream.Close)
	w.stream.Create(&kv.WatchCreate{KeyRange: kv.KeyRange{Key: []byte("w/"), End: []byte("w0")}, Start: from})
	return w
}

// pull takes what there is.
func (w *watching) pull(t *testing.T) {
	t.Helper()
	for {
		r, some, err := w.stream.Next(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		if !some {
			return
		}
		if r.Canceled {
			w.ended = r.CompactRevision
		}
		a := new(pb.WatchResponse)
		if err := proto.Unmarshal(bytes.Join(r.Events, nil), a); err != nil {
			t.Fatal(err)
		}
		for _, e := range a.Events {
			w.seen = append(w.seen, kv.Revision(e.Kv.ModRevision))
		}
	}
}

// reading reads two keys that are always written together, again and again, until stop is called, and asks that they are equal and
// that nothing grows older.
func (m *member) reading() (stop func()) {
	ctx, cancel := context.WithCancel(m.t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var last kv.Revision
			for ctx.Err() == nil {
				r, err := m.Range(ctx, &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("p/"), End: []byte("p0")}, Serializable: true})
				if err != nil {
					m.t.Errorf("read: %v", err)
					return
				}
				var values []string
				for row := range r.Rows.All() {
					one, err := kv.DecodeKeyValue(row)
					if err != nil {
						m.t.Error(err)
						return
					}
					values = append(values, string(one.Value))
				}
				if len(values) != 2 || values[0] != values[1] || r.Revision < last {
					m.t.Errorf("read %q at revision %v after %v", values, r.Revision, last)
				}
				last = r.Revision
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() { cancel(); readers.Wait() }
}

// TestCatchUpUnderWay replaces the state of a member that is at work. Requests of its clients were proposed and came to be where it could not
// hear of it; they are told that nobody knows, when the state is in force. A watch gets every event once and in order, or is
// told that they are compacted, and reads go on, of the old state and then of the new one.
func TestCatchUpUnderWay(t *testing.T) {
	for _, form := range []transport.Form{transport.Database, transport.Checkpoint} {
		for _, compact := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/compacted=%v", form, compact), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testCatchUpUnderWay(t, form, compact) })
			})
		}
	}
}

func testCatchUpUnderWay(t *testing.T, form transport.Form, compact bool) {
	c := startCluster(t, 3, shortLog, quickRelease, inForm(form))
	leader, m := c.members[c.leader()], c.members[c.follower()]
	pair := func(value string) {
		if err := leader.tryTxn(opPut("p/1", value), opPut("p/2", value)); err != nil {
			t.Fatal(err)
		}
	}
	pair("0")
	leader.put("w/before", "v")
	c.awaitEqual()
	seesAll := m.watching(1)
	seesAll.pull(t)
	stop := m.reading()

	c.net.deafen(m.address, true)
	began := time.Now()
	answers := make(chan error, 2)
	go func() {
		_, err := m.tryPut(t.Context(), "w/unheard", "v", 0)
		answers <- err
	}()
	go func() {
		_, err := m.MemberUpdate(t.Context(), m.ID(), []string{"http://" + m.address, "http://" + m.address + "0"})
		answers <- err
	}()
	c.eventually("the leader has carried them out", func() bool {
		self, _ := leader.cluster.Member(m.ID())
		return leader.get("w/unheard") == "v" && len(self.PeerURLs) == 2
	})
	for i := range 60 {
		leader.put(fmt.Sprint("w/", i), "v")
		pair(fmt.Sprint(i + 1))
	}
	compacted := leader.keys.Revision() - 5
	if compact {
		if _, err := leader.Compact(t.Context(), kv.CompactRequest{Revision: compacted}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	if got := m.CatchUpStats().InForce; got != 0 || len(answers) != 0 {
		t.Fatalf("%d states and %d answers came to a member that hears nothing", got, len(answers))
	}

	c.net.deafen(m.address, false)
	c.eventually("a state is in force", func() bool { return m.CatchUpStats().InForce == 1 })
	for range 2 {
		var err error
		select {
		case err = <-answers:
		case <-time.After(time.Minute):
			t.Fatal("a request that the state covers was not answered")
		}
		if !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrTimeoutLeaderFail) && !errors.Is(err, ErrTimeoutConnectionLost) {
			t.Errorf("a request that the state covers was answered %v", err)
		}
	}
	if took := time.Since(began); took >= m.cfg.requestTimeout() {
		t.Errorf("answered after %v, the time of a request", took)
	}
	m.put("w/after", "v") // it goes on as ever
	stop()
	seesAll.pull(t)
	seesAll.check(t, leader, compact, compacted)
	c.awaitEqualKeys()
}

// check compares what a watch saw with the history.
func (w *watching) check(t *testing.T, leader *clusterMember, compact bool, compacted kv.Revision) {
	t.Helper()
	if compact {
		if w.ended != compacted || len(w.seen) != 1 {
			t.Errorf("%d events, then ended by the compaction at %v; want one event and %v", len(w.seen), w.ended, compacted)
		}
		return
	}
	r, err := leader.Range(t.Context(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("w/"), End: []byte("w0")}})
	if err != nil {
		t.Fatal(err)
	}
	var want []kv.Revision // each key was put once
	for row := range r.Rows.All() {
		one, err := kv.DecodeKeyValue(row)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, one.Mod)
	}
	slices.Sort(want)
	if !slices.Equal(w.seen, want) || w.ended != 0 {
		t.Errorf("events of revisions %v (ended by compaction %v), want %v", w.seen, w.ended, want)
	}
}

// TestUnwantedStateIsGivenUp has a member receive states of which raft makes nothing: the first because a later one comes before raft
// has heard of it, the second because raft was told of it and does not take it. Nothing is left of either on the disk.
func TestUnwantedStateIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		sender := start(t, cfg)
		sender.putMany("k", 30)
		first := sender.takeState(transport.Checkpoint)
		sender.putMany("l", 30)
		second := sender.takeState(transport.Checkpoint)

		other, _ := memoryConfig()
		m := start(t, other)
		stores := func() []string {
			names, err := m.dir.otherStores("")
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		for i, state := range []sentState{first, second} {
			if err := m.catchUp.Receive(t.Context(), state.message, state.incoming()); err != nil {
				t.Fatal(err)
			}
			if got := stores(); len(got) != 2 {
				t.Errorf("after state %d there are %q", i, got)
			}
		}
		time.Sleep(time.Minute)
		if got := stores(); len(got) != 2 {
			t.Errorf("a state that raft has yet to hear of was given up: there are %q", got)
		}
		m.catchUp.stepped() // but raft has no use for it: the member is a cluster of its own
		time.Sleep(2 * UpkeepIntervalDefault)
		if got := stores(); len(got) != 1 || m.catchUp.state != nil {
			t.Errorf("of the state that raft did not want there are %q", got)
		}
		m.put("k", "v")
	})
}

// TestLogIsHeld: the log behind a state on its way is kept while it flies and for landedKept after it has landed, so that who got it finds
// what follows; a state that was not sent holds nothing.
func TestLogIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		shortLog(0, &cfg)
		quickRelease(0, &cfg)
		cfg.SegmentBytes = 4096 // whole segments are given up
		m := start(t, cfg)
		m.putMany("a", 30)
		time.Sleep(time.Second)
		first := func() uint64 { return m.raftLog.Stats().First }
		begin := uint64(m.Status().Applied)
		flight := m.catchUp.flying.begin(kv.Index(begin))
		dropped := m.catchUp.flying.begin(1)
		dropped.drop()
		write := func() {
			m.putMany("b", 100)
			time.Sleep(time.Second)
		}
		write()
		time.Sleep(2 * landedKept)
		write()
		if got := first(); got > begin+1 {
			t.Errorf("the log begins at %d, a state at %d is on its way", got, begin)
		}
		flight.land()
		time.Sleep(landedKept - 2*time.Second)
		write()
		if got := first(); got > begin+1 {
			t.Errorf("the log begins at %d, a state at %d has just landed", got, begin)
		}
		time.Sleep(3 * time.Second)
		write()
		if got := first(); got <= begin+1 {
			t.Errorf("the log still begins at %d, %v after a state at %d landed", got, landedKept, begin)
		}
	})
}

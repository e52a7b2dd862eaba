package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// feeds is a hub whose feeds bring what the test decides, step by step.
type feeds struct {
	t    *testing.T
	rng  *rand.Rand
	hub  *hub
	head int64 // the cluster's revision; each revision from 2 on is a put of the one key there is
	live []*watcher
	seen map[*watcher]int64 // the revision that the client of a watcher expects next
}

// TestFeeds: watchers come with any start, rest when they are not read, change feeds when feeds meet or fail, and go. Each gets every
// revision from its start on, once and in order. The steps are drawn from a seed, which is printed.
func TestFeeds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithCancel(t.Context())
	f := &feeds{t: t, rng: rand.New(rand.NewPCG(seed, 0)), head: 1, seen: map[*watcher]int64{}}
	f.hub = newHub(ctx, func(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
		silent := make(chan clientv3.WatchResponse)
		context.AfterFunc(ctx, func() { close(silent) })
		return silent
	})
	var streams []*watchStream
	for range 5 {
		streams = append(streams, &watchStream{
			Proxy: &Proxy{hub: f.hub}, queue: newQueue(5, 1000), end: func(error) {}, watchers: map[int64]*watcher{}, parked: map[*watcher]struct{}{},
		})
	}
	parked, merged := 0, 0
	for range 50_000 {
		s := streams[f.rng.IntN(len(streams))]
		before := f.hub.stats().feeds
		switch f.rng.IntN(12) {
		case 0:
			if len(f.live) < 40 {
				f.begin(s)
			}
		case 1:
			f.cancel()
		case 2, 3, 4:
			f.head++
		case 5, 6, 7, 8:
			if f.deliver() && f.hub.stats().feeds < before {
				merged++
			}
		case 9:
			f.fail()
		default:
			f.read(s, f.rng.IntN(4))
		}
		parked += len(s.parked)
	}
	if f.settle(streams); parked == 0 || merged == 0 {
		t.Errorf("%d rests, %d meetings: the test shows little", parked, merged)
	}
	cancel()
	f.hub.feeds.Wait()
}

// begin makes a watcher, as watchStream.create does.
func (f *feeds) begin(s *watchStream) {
	w := &watcher{stream: s, id: s.nextID, token: string(rune('a' + f.rng.IntN(2))), next: 1 + f.rng.Int64N(f.head+3)}
	if f.rng.IntN(2) == 0 {
		w.next = f.head + 1
	}
	s.nextID++
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	s.watchers[w.id] = w
	f.hub.add(w)
	f.live, f.seen[w] = append(f.live, w), max(w.next, 2)
}

func (f *feeds) cancel() {
	if len(f.live) == 0 {
		return
	}
	i := f.rng.IntN(len(f.live))
	w := f.live[i]
	f.live = append(f.live[:i], f.live[i+1:]...)
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	delete(w.stream.watchers, w.id)
	f.hub.remove(w)
}

// pick is a feed that is under way. Feeds are found by their watchers, in the order of those, so that the seed decides.
func (f *feeds) pick() *feed {
	if len(f.live) == 0 {
		return nil
	}
	return f.live[f.rng.IntN(len(f.live))].feed
}

// deliver lets a feed bring its creation, events, or the news that there are none.
func (f *feeds) deliver() bool {
	feed := f.pick()
	if feed == nil {
		return false
	}
	if f.rng.IntN(4) == 0 {
		f.hub.created(feed, f.head)
		return true
	}
	r := &clientv3.WatchResponse{Header: &pb.ResponseHeader{Revision: f.head}}
	for rev := max(feed.next, 2); rev <= f.head && f.rng.IntN(5) > 0; rev++ {
		r.Events = append(r.Events, (*clientv3.Event)(&mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: rev, Value: make([]byte, 50)}}))
	}
	if len(r.Events) == 0 && feed.next <= f.head {
		return false // the news would not be true
	}
	f.hub.deliver(feed, r)
	return true
}

// fail ends a feed for a reason that concerns the one in whose name it watched. Its own watchers are told.
func (f *feeds) fail() {
	feed := f.pick()
	if feed == nil || f.rng.IntN(20) > 0 {
		return
	}
	f.hub.end(feed, &clientv3.WatchResponse{Header: &pb.ResponseHeader{}, Canceled: true}, errors.New("etcdserver: invalid auth token"))
	var left []*watcher
	for _, w := range f.live {
		if !w.ended {
			left = append(left, w)
		}
	}
	f.live = left
}

// read lets the client of a stream read some answers, and its sender look for more.
func (f *feeds) read(s *watchStream, n int) {
	for range n {
		r := s.queue.take()
		if r == nil {
			f.hub.unpark(s)
			return
		}
		for w, next := range f.seen {
			if w.stream != s || w.id != r.WatchId {
				continue
			}
			for _, e := range r.Events {
				if e.Kv.ModRevision != next {
					f.t.Fatalf("watcher %d got revision %d, want %d", w.id, e.Kv.ModRevision, next)
				}
				next++
			}
			f.seen[w] = next
		}
	}
}

// settle lets everybody have everything.
func (f *feeds) settle(streams []*watchStream) {
	for range 1_000_000 { // far more than it takes
		if f.behind() == nil {
			return
		}
		f.deliver()
		for _, s := range streams {
			f.read(s, 100)
			f.read(s, 1)
		}
	}
	w := f.behind()
	f.t.Fatalf("watcher %d has got everything before %d, the cluster is at %d", w.id, f.seen[w], f.head)
}

// behind is a watcher that lacks something; nil is none.
func (f *feeds) behind() *watcher {
	for _, w := range f.live {
		if f.seen[w] <= f.head {
			return w
		}
	}
	return nil
}

package proxy

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// A feed is one watch at the cluster; many watchers of clients may take what it brings. Each watcher knows the next revision it
// wants, so that one feed serves watchers that began at different revisions, as long as it brings everything that any of them
// still wants:
//
//	feed.next <= watcher.next     for each watcher that takes from it
//
// A watcher whose client does not read leaves its feed and gets one of its own when the client has caught up with what is queued:
// it holds up nobody, and its place is a number, not a queue.
//
// A watcher belongs to a feed, is parked, or has ended; all of that is the hub's, under one lock that is held for no request and no
// send.

// feedKey is what the watchers of a feed have in common.
type feedKey struct {
	keys
	prev   bool // with the key-values before the change
	leader bool // ends when there is no leader
}

// nearRevisions is how far behind the cluster's revision a feed may begin for others to join it at once: what a member of etcd
// reads in one go when a watch catches up. Others would have to wait for it.
const nearRevisions = 1000

type feed struct {
	key      feedKey
	token    string // of the client in whose name it watches
	cancel   context.CancelFunc
	next     int64 // the revision of the next event it may bring
	level    bool  // has caught up, or nearly
	watchers map[*watcher]struct{}
}

// hub joins watchers to feeds.
type hub struct {
	watch watchFunc
	ctx   context.Context // ends all feeds
	feeds sync.WaitGroup

	mu     sync.Mutex // guards the fields below, all feeds, and the fields of watchers that say so
	groups map[feedKey]map[*feed]struct{}
	shared uint64 // events that reached a watcher beside the first
}

// watchFunc begins a watch at the cluster.
type watchFunc func(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan

func newHub(ctx context.Context, watch watchFunc) *hub {
	return &hub{watch: watch, ctx: ctx, groups: map[feedKey]map[*feed]struct{}{}}
}

// add gives w a feed. Caller holds mu.
func (h *hub) add(w *watcher) {
	var best *feed
	for f := range h.groups[w.key] {
		if f.next <= w.next && (f.level || f.next == w.next) && (best == nil || f.next > best.next) {
			best = f
		}
	}
	if best == nil {
		best = h.start(w)
	}
	best.watchers[w] = struct{}{}
	w.feed = best
}

// start begins a feed for w. Caller holds mu.
func (h *hub) start(w *watcher) *feed {
	ctx, cancel := context.WithCancel(h.ctx)
	f := &feed{key: w.key, token: w.token, cancel: cancel, next: w.next, watchers: map[*watcher]struct{}{}}
	if h.groups[f.key] == nil {
		h.groups[f.key] = map[*feed]struct{}{}
	}
	h.groups[f.key][f] = struct{}{}
	opts := []clientv3.OpOption{clientv3.WithRev(f.next), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify()}
	opts = when(opts, f.key.end != "", clientv3.WithRange(f.key.end))
	opts = when(opts, f.key.prev, clientv3.WithPrevKV())
	// The client keeps a stream of its own for each kind of metadata.
	ctx = outgoingAs(ctx, identity{f.token, f.key.leader})
	h.feeds.Go(func() { // ends with the feed's context, or with the watch
		defer cancel()
		h.run(f, h.watch(ctx, f.key.key, opts...))
	})
	return f
}

// run hands out what a feed brings, until it ends.
func (h *hub) run(f *feed, from clientv3.WatchChan) {
	for r := range from {
		switch err := r.Err(); {
		case err != nil:
			h.end(f, &r, err)
			return
		case r.Created:
			h.created(f, r.Header.Revision)
		default:
			h.deliver(f, &r)
		}
	}
	h.end(f, &clientv3.WatchResponse{}, errFeedEnded)
}

// errFeedEnded is what watchers are told whose feed ended without a word, which happens when the proxy stops.
var errFeedEnded = errors.New("proxy: the watch at the cluster has ended")

func (h *hub) created(f *feed, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.level = f.next+nearRevisions > revision
	h.merge(f)
}

// deliver hands out events, or the news that there were none up to a revision.
func (h *hub) deliver(f *feed, r *clientv3.WatchResponse) {
	b := &batch{response: r}
	for _, e := range r.Events {
		b.events = append(b.events, (*mvccpb.Event)(e))
	}
	b.size = proto.Size(&pb.WatchResponse{Events: b.events})
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(b.events); n > 0 {
		f.next = max(f.next, b.events[n-1].Kv.ModRevision+1)
		if others := len(f.watchers) - 1; others > 0 {
			h.shared += uint64(n) * uint64(others)
		}
	} else {
		f.next = max(f.next, r.Header.Revision+1)
	}
	f.level = f.level || f.next+nearRevisions > r.Header.Revision
	for w := range f.watchers {
		if !w.take(b) {
			h.park(w)
		}
	}
	if len(f.watchers) == 0 {
		h.stop(f)
		return
	}
	h.merge(f)
}

// batch is one response of a feed.
type batch struct {
	response *clientv3.WatchResponse
	events   []*mvccpb.Event
	size     int // of the events, in bytes
}

// merge joins f with another feed of its group that has caught up too: the one that is behind goes on, for all. Caller holds mu.
func (h *hub) merge(f *feed) {
	if !f.level {
		return
	}
	for g := range h.groups[f.key] {
		if g == f || !g.level {
			continue
		}
		behind, ahead := f, g
		if g.next < f.next {
			behind, ahead = g, f
		}
		for w := range ahead.watchers {
			behind.watchers[w] = struct{}{}
			w.feed = behind
		}
		ahead.watchers = nil
		h.stop(ahead)
		f = behind
	}
}

// stop ends a feed that nobody takes from. Caller holds mu.
func (h *hub) stop(f *feed) {
	f.cancel()
	delete(h.groups[f.key], f)
	if len(h.groups[f.key]) == 0 {
		delete(h.groups, f.key)
	}
}

// end takes note that a feed has ended by itself. Watchers of other clients than the one in whose name it watched get another.
func (h *hub) end(f *feed, r *clientv3.WatchResponse, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	watchers := f.watchers
	f.watchers = nil
	h.stop(f)
	for w := range watchers {
		w.feed = nil
		switch {
		case errors.Is(why, rpctypes.ErrNoLeader):
			w.stream.end(rpctypes.ErrGRPCNoLeader)
		case errors.Is(why, errFeedEnded) || h.ctx.Err() != nil:
			w.stream.end(rpctypes.ErrGRPCStopped)
		case r.CompactRevision != 0 && w.next >= r.CompactRevision:
			h.add(w) // it does not need what was compacted
		case r.CompactRevision == 0 && w.token != f.token:
			h.add(w)
		default:
			w.canceled(r, why)
		}
	}
}

// park takes w from its feed until its client has read what is queued. Caller holds mu.
func (h *hub) park(w *watcher) {
	delete(w.feed.watchers, w)
	w.feed = nil
	w.stream.parked[w] = struct{}{}
	w.stream.queue.rouse() // it may have been read meanwhile
}

// unpark gives the parked watchers of a stream feeds again, and tells whether there were any.
func (h *hub) unpark(s *watchStream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	some := len(s.parked) > 0
	for w := range s.parked {
		delete(s.parked, w)
		h.add(w)
	}
	return some
}

// remove ends w. Caller holds mu.
func (h *hub) remove(w *watcher) {
	delete(w.stream.parked, w)
	f := w.feed
	if f == nil {
		return
	}
	delete(f.watchers, w)
	w.feed = nil
	if len(f.watchers) == 0 {
		h.stop(f)
	}
}

// hubStats is what the hub does.
type hubStats struct {
	feeds, watchers int
	shared          uint64
}

func (h *hub) stats() (s hubStats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, group := range h.groups {
		s.feeds += len(group)
		for f := range group {
			s.watchers += len(f.watchers)
		}
	}
	s.shared = h.shared
	return s
}

package cluster

import (
	"context"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// watch is one watch on one stream, with all it was sent.
type watch struct {
	member   string
	span     span
	from     int64 // revision it begins at; 0 for now
	prev     bool  // events come with what was before
	next     int64 // the first revision of which it was told nothing; 0 while that is not known
	messages []message
}

// message is one message of a stream.
type message struct {
	at                time.Duration
	revision          int64 // of the header
	created, canceled bool
	compacted         int64
	reason            string
	events            []event
	before            []event // what was before each, if the watch asked for it
	hidden            int64   // the revision up to which somebody had asked for compaction when it came
}

// tell is the first revision of which nothing was told after m, if it was next before; 0 is not known.
func (m *message) tell(next int64) int64 {
	switch {
	case m.created && next == 0:
		return m.revision + 1
	case len(m.events) > 0:
		return max(next, m.events[len(m.events)-1].mod+1)
	case !m.created && !m.canceled:
		return max(next, m.revision+1)
	}
	return next
}

// watcher follows a span of keys to the end, from one watch to the next, wherever a member answers.
type watcher struct {
	*history
	members func() []*member
	rng     *rand.Rand
	span    span
	// next is the first revision it has not been told of; guarded by history.mu.
	next int64
	// restless goes to another member now and then, and sometimes back in time.
	restless bool
}

// progressEvery is how often a watcher asks how far it is.
const progressEvery = 300 * time.Millisecond

// run follows until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		members := w.members()
		life := 30 * time.Second
		if w.restless {
			life = time.Duration(300+w.rng.IntN(2000)) * time.Millisecond
		}
		w.follow(ctx, members[w.rng.IntN(len(members))], life)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// begin draws where a watch begins: where the last one was, or before.
func (w *watcher) begin(m *member) *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := &watch{member: m.name, span: w.span, from: w.next, prev: w.rng.IntN(3) == 0}
	if w.restless && w.rng.IntN(3) == 0 {
		one.from = max(w.compacted+1, w.next-w.rng.Int64N(300), 1)
	}
	one.next = one.from
	w.watches = append(w.watches, one)
	return one
}

// follow keeps one watch at one member until it breaks, ctx ends or its time is over.
func (w *watcher) follow(ctx context.Context, m *member, life time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	stream, err := pb.NewWatchClient(m.conn).Watch(ctx)
	if err != nil {
		return
	}
	one := w.begin(m)
	create := &pb.WatchCreateRequest{
		Key: []byte(one.span.key), RangeEnd: one.span.rangeEnd(), StartRevision: one.from, PrevKv: one.prev, ProgressNotify: w.rng.IntN(2) == 0,
	}
	if stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}) != nil {
		return
	}
	created := make(chan struct{}, 1)
	asking := make(chan struct{})
	go func() { // ends with ctx, and that with follow
		defer close(asking)
		select {
		case <-created:
		case <-ctx.Done():
		}
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}) != nil {
				return
			}
		}
	}()
	defer func() {
		cancel()
		<-asking
	}()
	for {
		r, err := stream.Recv()
		if err != nil {
			return
		}
		if r.GetCreated() && len(created) == 0 {
			created <- struct{}{}
		}
		w.take(one, r)
		if r.GetCanceled() {
			return
		}
	}
}

// take notes a message.
func (w *watcher) take(one *watch, r *pb.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := message{
		at: w.now(), revision: r.GetHeader().GetRevision(), created: r.GetCreated(), canceled: r.GetCanceled(),
		compacted: r.GetCompactRevision(), reason: r.GetCancelReason(), hidden: w.compacted,
	}
	for _, e := range r.GetEvents() {
		m.events = append(m.events, eventOf(e))
		if one.prev {
			m.before = append(m.before, rowOf(e.GetPrevKv()))
		}
	}
	one.messages = append(one.messages, m)
	one.next = m.tell(one.next)
	w.next = max(w.next, one.next)
}

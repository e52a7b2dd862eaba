package proxy

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchService serves watches from feeds.
type watchService struct {
	pb.UnimplementedWatchServer
	*Proxy
}

// watcher is one watch of a client.
type watcher struct {
	stream          *watchStream
	id              int64
	key             feedKey
	token           string
	progress        bool
	noPut, noDelete bool

	// The hub's lock guards these.
	feed   *feed // nil: parked, or ended
	ended  bool  // by the cluster
	start  int64 // where it began
	next   int64 // the revision of the next event it wants
	header *pb.ResponseHeader
}

// watchStream is one stream of watches.
type watchStream struct {
	*Proxy
	who   identity
	queue *queue
	end   context.CancelCauseFunc

	nextID int64 // the receiving goroutine's

	// The hub's lock guards these; the receiving goroutine alone changes watchers.
	watchers  map[int64]*watcher
	parked    map[*watcher]struct{}
	asked     int  // questions how far the watches are
	answering bool // somebody is at them
}

// Watch implements pb.WatchServer.
func (s *watchService) Watch(stream pb.Watch_WatchServer) error {
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	w := &watchStream{
		Proxy: s.Proxy, who: behalf(ctx), queue: newQueue(queueAnswers, queueBytes), end: end, watchers: map[int64]*watcher{}, parked: map[*watcher]struct{}{},
	}
	received := make(chan struct{})
	s.handlers.Go(func() { // ends with the call
		defer close(received)
		if err := w.receive(ctx, stream); err != nil {
			end(err)
		}
		<-ctx.Done() // a client that has said all it wanted goes on receiving
		w.close()
	})
	stopping := context.AfterFunc(s.ctx, func() { end(rpctypes.ErrGRPCStopped) })
	defer stopping()
	err := w.send(ctx, stream)
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		return why
	}
	return err
}

// close ends all watches of the stream.
func (s *watchStream) close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for _, w := range s.watchers {
		s.hub.remove(w)
	}
}

// receive takes the client's requests until it has no more. A client that does not read is not heard.
func (s *watchStream) receive(ctx context.Context, stream pb.Watch_WatchServer) error {
	for {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case q.GetCreateRequest() != nil:
			s.create(ctx, q.GetCreateRequest())
		case q.GetCancelRequest() != nil:
			s.cancel(q.GetCancelRequest().WatchId)
		case q.GetProgressRequest() != nil:
			s.askProgress(ctx)
		}
		if err := s.queue.awaitRoom(ctx); err != nil {
			return err
		}
	}
}

// The reasons for refusing a watch. The texts are etcd's.
const (
	reasonDuplicate  = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonEmptyRange = "mvcc: watcher range is empty"
)

// create makes a watch, if the client may read the range: that is asked with a count, whose answer also tells the revision
// behind which a watch of the present begins.
func (s *watchStream) create(ctx context.Context, q *pb.WatchCreateRequest) {
	k := keys{string(q.Key), string(q.RangeEnd)}
	if k.key == "" {
		k.key = "\x00" // the smallest one, as for a member
	}
	if q.StartRevision < 0 {
		s.refuse(&pb.ResponseHeader{}, rpctypes.ErrCompacted.Error())
		return
	}
	count := &pb.RangeRequest{Key: []byte(k.key), RangeEnd: []byte(k.end), Serializable: true, CountOnly: true, Limit: 1}
	r, err := s.direct.Do(outgoing(ctx), rangeOp(count))
	if err != nil {
		s.refuse(&pb.ResponseHeader{}, err.Error())
		return
	}
	header := r.Get().Header
	switch {
	case k.end != "" && !k.endless() && k.end <= k.key:
		s.refuse(header, reasonEmptyRange)
		return
	case q.WatchId != 0 && s.watchers[q.WatchId] != nil:
		s.refuse(header, reasonDuplicate)
		return
	}
	w := &watcher{
		stream: s, id: s.id(q.WatchId), key: feedKey{k, q.PrevKv, s.who.leader}, token: s.who.token, progress: q.ProgressNotify,
		next: q.StartRevision, header: header,
	}
	if w.next == 0 {
		w.next = header.Revision + 1
	}
	for _, filter := range q.Filters {
		w.noPut = w.noPut || filter == pb.WatchCreateRequest_NOPUT
		w.noDelete = w.noDelete || filter == pb.WatchCreateRequest_NODELETE
	}
	w.start = w.next
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.watchers[w.id] = w
	s.queue.put(&pb.WatchResponse{Header: header, WatchId: w.id, Created: true})
	s.hub.add(w)
}

// id is the one that the client wants, or the next that is free.
func (s *watchStream) id(wanted int64) int64 {
	if wanted != 0 {
		return wanted
	}
	for s.watchers[s.nextID] != nil {
		s.nextID++
	}
	s.nextID++
	return s.nextID - 1
}

// refuse says that a watch cannot be.
func (s *watchStream) refuse(header *pb.ResponseHeader, why string) {
	s.queue.put(&pb.WatchResponse{Header: header, WatchId: clientv3.InvalidWatchID, Created: true, Canceled: true, CancelReason: why})
}

// cancel ends a watch. One that does not exist is nothing to speak of.
func (s *watchStream) cancel(id int64) {
	w := s.watchers[id]
	if w == nil {
		return
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.watchers, id)
	s.hub.remove(w)
	s.queue.put(&pb.WatchResponse{Header: w.header, WatchId: id, Canceled: true})
}

// send sends what is queued, until the stream ends.
func (s *watchStream) send(ctx context.Context, stream pb.Watch_WatchServer) error {
	for {
		for r := s.queue.take(); r != nil; r = s.queue.take() {
			if err := stream.Send(r); err != nil {
				return err
			}
		}
		if s.hub.unpark(s) {
			continue
		}
		select {
		case <-s.queue.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take queues what w wants of a batch. It reports false, and takes nothing, if there is no room. Caller holds the hub's lock.
func (w *watcher) take(b *batch) bool {
	r := &pb.WatchResponse{Header: b.response.Header, WatchId: w.id}
	next := w.next
	if len(b.events) == 0 {
		if next > b.response.Header.Revision+1 {
			return true // begins later
		}
		next = b.response.Header.Revision + 1
		if !w.progress {
			w.next = next
			return true
		}
	} else {
		r.Events = w.wanted(b.events)
		next = max(next, b.events[len(b.events)-1].Kv.ModRevision+1)
		if len(r.Events) == 0 {
			w.next = next
			return true
		}
	}
	if !w.stream.queue.offer(r, b.size) {
		return false
	}
	w.next, w.header = next, r.Header
	return true
}

// wanted are the events of w; most often all.
func (w *watcher) wanted(all []*mvccpb.Event) []*mvccpb.Event {
	if all[0].Kv.ModRevision >= w.next && !w.noPut && !w.noDelete {
		return all
	}
	var some []*mvccpb.Event
	for _, e := range all {
		del := e.Type == mvccpb.Event_DELETE
		if e.Kv.ModRevision >= w.next && !(del && w.noDelete) && !(!del && w.noPut) {
			some = append(some, e)
		}
	}
	return some
}

// canceled says that a watch has ended at the cluster. Its id stays taken until the client cancels it. Caller holds the hub's lock.
func (w *watcher) canceled(r *clientv3.WatchResponse, why error) {
	a := &pb.WatchResponse{Header: r.Header, WatchId: w.id, Canceled: true, CompactRevision: r.CompactRevision, CancelReason: r.CancelReason}
	if a.Header == nil {
		a.Header = &pb.ResponseHeader{}
	}
	if a.CancelReason == "" && a.CompactRevision == 0 {
		a.CancelReason = why.Error()
	}
	w.ended = true
	w.stream.queue.put(a)
}

// The bounds of what may wait for a client that does not read: beyond them its watches wait too.
const (
	queueAnswers = 1000
	queueBytes   = 4 << 20 // a single batch may be larger
)

// queue is what waits to be sent to one client.
type queue struct {
	answersMax, bytesMax int
	wake                 chan struct{} // one slot: there is something to do for the sender
	room                 chan struct{} // one slot: something was taken

	mu      sync.Mutex // guards the fields below
	answers []sized
	bytes   int
}

// sized is an answer and the bytes that it was counted with.
type sized struct {
	answer *pb.WatchResponse
	bytes  int
}

func newQueue(answersMax, bytesMax int) *queue {
	return &queue{answersMax: answersMax, bytesMax: bytesMax, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// offer queues r unless the queue is full.
func (q *queue) offer(r *pb.WatchResponse, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.answers) >= q.answersMax || (len(q.answers) > 0 && q.bytes+size > q.bytesMax) {
		return false
	}
	q.answers = append(q.answers, sized{r, size})
	q.bytes += size
	q.rouse()
	return true
}

// put queues r in any case: there is at most one such answer for a request, and awaitRoom holds requests back.
func (q *queue) put(r *pb.WatchResponse) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answers = append(q.answers, sized{r, 0})
	q.rouse()
}

// take is the next answer; nil is none.
func (q *queue) take() *pb.WatchResponse {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.answers) == 0 {
		return nil
	}
	first := q.answers[0]
	q.answers[0] = sized{}
	q.answers = q.answers[1:]
	q.bytes -= first.bytes
	signal(q.room)
	return first.answer
}

// awaitRoom waits until less is queued than may be.
func (q *queue) awaitRoom(ctx context.Context) error {
	for q.full() {
		select {
		case <-q.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.answers) >= q.answersMax
}

func (q *queue) rouse() { signal(q.wake) }

// signal fills the slot of a channel.
func signal(slot chan<- struct{}) {
	select {
	case slot <- struct{}{}:
	default:
	}
}

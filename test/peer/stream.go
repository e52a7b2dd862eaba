package peer

import (
	"context"
	"fmt"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// A stream is one Watch stream to one server. A goroutine of its own reads it until it ends; everything read is sorted
// at once into the log of its watch or, when it belongs to none, into the lists of answers.
type stream struct {
	client grpc.ClientStream
	cancel context.CancelFunc
	done   chan struct{} // closed when the reader has ended; end is set then
	tamper Tamper

	mu       sync.Mutex          // guards the fields below and the logs; released before receives
	pending  bool                // a watch from the past may not be level with the store yet; used by the operations alone
	asked    int                 // progress answers there may be, as many as questions; used by the operations alone
	gate     chan struct{}       // while set, the reader waits for it to close before it reads on
	watches  map[int64]*watchLog // live and cancelled, by watch id; a reused id replaces the log
	created  []*pb.WatchResponse // answers to creations, in order
	progress []int64             // revisions of progress answers for the whole stream
	broken   []string            // rules of a watch stream that the server broke
	end      answer
}

// A watchLog is what one watch received.
type watchLog struct {
	request   *pb.WatchCreateRequest // set by the one who asked, once the answer to the creation is known
	createdAt int64                  // revision in the header of that answer
	events    []*mvccpb.Event
	responses int
	fragments int   // responses with fragment set
	notified  int   // progress notifications
	lastRev   int64 // of the last event
	open      bool  // the last response was a fragment, so the next may go on with its revision
	canceled  *pb.WatchResponse
	// confirmed is the answer to the client's own cancellation of a watch that a compaction had cancelled: until that is
	// asked for, etcd keeps the id taken and answers no progress request on the stream.
	confirmed *pb.WatchResponse
	// dueToCancel is set for a watch created below the compacted revision: the server owes it a cancellation.
	dueToCancel bool

	// compared counts the events already held against the reference's, expected those the history demands so far,
	// seen the length of the history that was counted.
	compared, expected, seen int
}

func (t *target) openStream(conn int) (*stream, error) {
	ctx, cancel := context.WithCancel(context.Background())
	m := methodOf("/etcdserverpb.Watch/Watch")
	client, err := t.conns[conn].NewStream(ctx, &m.stream, m.path, grpc.WaitForReady(true))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open a watch stream to %s: %w", t.name, err)
	}
	s := &stream{client: client, cancel: cancel, done: make(chan struct{}), tamper: t.tamper, watches: map[int64]*watchLog{}}
	go s.read(t)
	return s, nil
}

// read takes responses off the stream until it ends.
func (s *stream) read(t *target) {
	defer close(s.done)
	for {
		s.mu.Lock()
		gate := s.gate
		s.mu.Unlock()
		if gate != nil {
			<-gate
		}
		r := new(pb.WatchResponse)
		if err := s.client.RecvMsg(r); err != nil {
			s.mu.Lock()
			s.end = t.ended("/etcdserverpb.Watch/Watch", nil, err)
			s.mu.Unlock()
			return
		}
		if s.tamper != nil {
			s.tamper("/etcdserverpb.Watch/Watch", r, "")
		}
		s.mu.Lock()
		s.take(r)
		s.mu.Unlock()
	}
}

// take sorts one response in. The lock is held.
func (s *stream) take(r *pb.WatchResponse) {
	switch {
	case r.Created:
		s.created = append(s.created, r)
		if !r.Canceled {
			s.watches[r.WatchId] = &watchLog{createdAt: r.GetHeader().GetRevision()}
		}
		if len(r.Events) > 0 {
			s.breaks("an answer to a creation carries events: %s", short(r))
		}
	case r.WatchId == -1 && !r.Canceled && len(r.Events) == 0:
		s.progress = append(s.progress, r.GetHeader().GetRevision())
	default:
		l := s.watches[r.WatchId]
		switch {
		case l == nil:
			s.breaks("a response for a watch that was never created: %s", short(r))
		case l.canceled != nil && l.canceled.CompactRevision != 0 && l.confirmed == nil && r.Canceled:
			l.confirmed = r
		case l.canceled != nil:
			s.breaks("a response after the cancellation: %s", short(r))
		default:
			s.takeFor(l, r)
		}
	}
}

// takeFor adds a response to the log of its watch and checks the rules every response follows: revisions rise, events of
// one revision come in one response unless it is a fragment, and the header is not behind the events.
func (s *stream) takeFor(l *watchLog, r *pb.WatchResponse) {
	l.responses++
	if r.Canceled {
		l.canceled = r
		if len(r.Events) > 0 {
			s.breaks("a cancellation carries events: %s", short(r))
		}
		return
	}
	if len(r.Events) == 0 {
		l.notified++
		return
	}
	first, last := r.Events[0].Kv.GetModRevision(), r.Events[len(r.Events)-1].Kv.GetModRevision()
	if first < l.lastRev || first == l.lastRev && !l.open {
		s.breaks("watch %d: revision %d after %d", r.WatchId, first, l.lastRev)
	}
	if !slices.IsSortedFunc(r.Events, func(a, b *mvccpb.Event) int { return int(a.Kv.ModRevision - b.Kv.ModRevision) }) {
		s.breaks("watch %d: events out of order: %s", r.WatchId, short(r))
	}
	if r.GetHeader().GetRevision() < last {
		s.breaks("watch %d: header revision %d, event %d", r.WatchId, r.GetHeader().GetRevision(), last)
	}
	if r.Fragment {
		l.fragments++
		if l.request != nil && !l.request.Fragment {
			s.breaks("watch %d: a fragment nobody asked for", r.WatchId)
		}
	}
	l.open, l.lastRev = r.Fragment, last
	l.events = append(l.events, r.Events...)
}

func (s *stream) breaks(format string, args ...any) {
	s.broken = append(s.broken, fmt.Sprintf(format, args...))
}

// hold stops the reader from taking more off the stream, so that the server has to keep what it has to say; resume
// lets it go on.
func (s *stream) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate == nil {
		s.gate = make(chan struct{})
	}
}

func (s *stream) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != nil {
		close(s.gate)
		s.gate = nil
	}
}

// close ends the stream without ceremony and waits for its reader.
func (s *stream) close() {
	s.resume()
	s.cancel()
	<-s.done
}

// unconfirmed returns the ids of watches cancelled by a compaction that the client has not cancelled itself yet.
func (s *stream) unconfirmed() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []int64
	for id, l := range s.watches {
		if l.canceled != nil && l.canceled.CompactRevision != 0 && l.confirmed == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// live returns the logs of watches that are not cancelled, by id.
func (s *stream) live() map[int64]*watchLog {
	live := map[int64]*watchLog{}
	for id, l := range s.watches {
		if l.canceled == nil && l.request != nil {
			live[id] = l
		}
	}
	return live
}

package proxy

import (
	"context"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A client may ask how far its watches have come. The answer is a revision up to which all of them have everything that
// concerns them, not below the one at which the question was asked. Feeds know how far they are when they bring something; of
// quiet ones the cluster is asked, which then tells all feeds of a stream.

// The cluster is asked again at growing pauses while the answer is not there: a member may lag behind.
const (
	progressPauseMin = 10 * time.Millisecond
	progressPauseMax = time.Second
)

// askProgress begins to answer, or lets the answer under way wait for this question too.
func (s *watchStream) askProgress(ctx context.Context) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.asked++
	if s.answering {
		return
	}
	s.answering = true
	s.handlers.Go(func() { s.answerProgress(ctx) }) // ends with the stream
}

// answerProgress answers what was asked, until nothing more is.
func (s *watchStream) answerProgress(ctx context.Context) {
	pause := progressPauseMin
	for ctx.Err() == nil {
		asked, quiet, span := s.question()
		if asked == 0 {
			return
		}
		count := &pb.RangeRequest{Key: []byte(span.key), Serializable: true, CountOnly: true}
		r, err := s.direct.Do(outgoing(ctx), rangeOp(count))
		for err == nil && !s.answerIf(asked, r.Get().Header) && ctx.Err() == nil {
			for who := range quiet {
				if err := s.client.RequestProgress(outgoingAs(s.ctx, who)); err != nil {
					s.log.Debug("the cluster could not be asked how far watches are", "error", err)
				}
			}
			select {
			case <-time.After(pause):
				pause = min(2*pause, progressPauseMax)
			case <-ctx.Done():
			}
		}
		if err != nil {
			s.log.Debug("the cluster could not be asked for its revision", "error", err)
			return
		}
	}
}

// question is how often was asked, in whose names the stream's feeds watch, and a span that the client may read. Without watches
// there is nothing to answer, and nothing more is asked.
func (s *watchStream) question() (asked int, who map[identity]struct{}, span keys) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	who = map[identity]struct{}{}
	for _, w := range s.watchers {
		span = w.key.keys
		if w.feed != nil {
			who[identity{w.feed.token, w.feed.key.leader}] = struct{}{}
		}
	}
	if len(s.watchers) == 0 || s.asked == 0 {
		s.asked, s.answering = 0, false
	}
	return s.asked, who, span
}

// answerIf answers if all watches have everything up to the revision of now.
func (s *watchStream) answerIf(asked int, now *pb.ResponseHeader) bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	have := int64(math.MaxInt64)
	for _, w := range s.watchers {
		if !w.ended && w.start <= now.Revision { // others begin later
			have = min(have, w.next-1)
		}
	}
	if have < now.Revision {
		return false
	}
	have = min(have, now.Revision)
	header := &pb.ResponseHeader{ClusterId: now.ClusterId, MemberId: now.MemberId, RaftTerm: now.RaftTerm, Revision: have}
	s.queue.put(&pb.WatchResponse{Header: header, WatchId: clientv3.InvalidWatchID})
	s.asked -= asked
	return true
}

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"holdfast/kv"
	"holdfast/replica"
	"holdfast/transport"
)

// refusedMax bounds the news of refusing peers that wait. There is one for each peer and lost connection; what finds no room
// is left to raft's own timeout.
const refusedMax = 16

// peerRefused hears from the transport that a member is certainly down.
func (s *Server) peerRefused(id uint64) {
	select {
	case s.refused <- kv.MemberID(id):
	default:
	}
}

// failOver has a new leader elected as soon as the machine of the present one says that nobody is there. All other members
// hear that at once, so each lets a random time pass before it stands for election.
func (s *Server) failOver(ctx context.Context) error {
	var answering sync.WaitGroup // ends soon after ctx
	defer answering.Wait()
	for {
		select {
		case id := <-s.refused:
			if s.Leader() != id || !s.forgetLeader(ctx, id) {
				continue
			}
			gone := s.cfg.Now()
			s.log.Warn("the leader is down; electing another", "leader", id.String())
			answering.Go(func() { s.answerLost(ctx, gone) })
			s.succeed(ctx, id)
		case <-ctx.Done():
			return nil
		}
	}
}

// forgetLeader has the replica forget its leader, and returns when it has: from then on proposals wait here for the next one. It is
// false if the leader is not forgotten within a heartbeat, because it was heard of again.
func (s *Server) forgetLeader(ctx context.Context, id kv.MemberID) bool {
	s.replica.LeaderGone(uint64(id))
	timeout := time.NewTimer(s.cfg.Heartbeat)
	defer timeout.Stop()
	for {
		changed := s.replica.LeadershipChange()
		if s.Leader() != id {
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// answerLost answers the requests that went to a leader before it was gone, as soon as this member has applied what that leader
// committed. Hardly any of them can still come to be, and their callers do better to hear now that nobody knows than when the time of
// a request is over. They are not proposed again: one may lie in the log of a member that returns, and would then come to be twice.
func (s *Server) answerLost(ctx context.Context, gone time.Time) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.requestTimeout())
	defer cancel()
	for {
		switch err := s.awaitCommitted(ctx); {
		case err == nil:
			if n := s.waiters.settle(gone, ErrTimeoutLeaderFail); n > 0 {
				s.log.Warn("requests were lost with the leader", "requests", n)
			}
			return
		case !errors.Is(err, ErrLeaderChanged) || ctx.Err() != nil:
			return // their own time ends with this one's
		}
	}
}

// campaignTries is how often a member stands for election by itself before it leaves that to raft's timeout. Votes split when
// two members try at nearly the same time; that this happens so often in a row is unlikely with any number of members.
const campaignTries = 4

// succeed stands for election unless another leader than the one that is gone comes up. Somebody else's election takes about
// as long as a heartbeat may: that is what --heartbeat-interval is chosen for.
func (s *Server) succeed(ctx context.Context, gone kv.MemberID) {
	for range campaignTries {
		term := s.replica.Status().Term
		if s.succeeded(ctx, gone, rand.N(s.cfg.Heartbeat)) {
			return
		}
		s.replica.Campaign(term)
		if s.succeeded(ctx, gone, s.cfg.Heartbeat) {
			return
		}
	}
}

// succeeded waits until a leader is known who is not the one that is gone, and tells whether there is nothing left to do:
// there is such a leader, or ctx has ended.
func (s *Server) succeeded(ctx context.Context, gone kv.MemberID, atMost time.Duration) bool {
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	for {
		changed := s.replica.LeadershipChange()
		if now := s.Leader(); now != 0 && now != gone { // the replica may not have forgotten it yet
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		case <-ctx.Done():
			return true
		}
	}
}

const (
	// hurryWithin is how long after the start a first election is hurried, hurryPoll how often it is looked at whether it can be.
	// etcd's numbers.
	hurryWithin, hurryPoll = 5 * time.Second, 50 * time.Millisecond
	// hurrySpares is what is left of an election timeout, in ticks: a leader there may be has time to say so. etcd's number.
	hurrySpares = 2
)

// hurryElection brings the first election forward when a majority of the members is connected: what the timeout is for, to hear
// from a leader, takes two heartbeats then.
func (s *Server) hurryElection(ctx context.Context) error {
	if !s.cfg.HurryElection {
		return nil
	}
	tick := time.NewTicker(hurryPoll)
	defer tick.Stop()
	for range hurryWithin / hurryPoll {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if n := len(s.cluster.Members()); n > 1 && s.connectedToQuorum(s.cfg.Now()) {
			s.log.Info("a majority is connected; fast-forwarding election ticks", "forward-ticks", s.cfg.ElectionTicks-hurrySpares)
			s.replica.Hurry(s.cfg.ElectionTicks - hurrySpares)
			return nil
		}
	}
	return nil
}

// retire waits for ctx to end, gives the leadership to another member if this one has it, and then calls stop. The parts still
// run meanwhile.
func (s *Server) retire(ctx, running context.Context, stop func()) error {
	defer stop()
	select {
	case <-ctx.Done():
	case <-running.Done():
		return nil
	}
	handing, cancel := context.WithTimeout(running, s.cfg.electionTimeout())
	defer cancel()
	for _, to := range s.successors() {
		err := s.replica.TransferLeader(handing, to)
		if err == nil {
			s.log.Info("handed the leadership over", "to", kv.MemberID(to).String())
			return nil
		}
		if errors.Is(err, replica.ErrNotLeader) {
			return nil
		}
		s.log.Warn("leadership transfer failed", "to", kv.MemberID(to).String(), "error", err)
	}
	return nil
}

// successors are the other voters the leader has heard of lately, most of the log first; none if this member does not lead.
func (s *Server) successors() []uint64 {
	status := s.replica.Status()
	var ids []uint64
	for id, p := range status.Progress {
		if status.Role == replica.Leader && id != uint64(s.id) && !p.Learner && p.RecentActive {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b uint64) int { return cmp.Compare(status.Progress[b].Match, status.Progress[a].Match) })
	return ids
}

// removalGrace is how long a removed member stays, so that the others hear that its removal is committed. etcd's number.
const removalGrace = time.Second

// leaveWhenRemoved ends the member when it has applied its own removal. Where the others tell it of that first, the transport
// ends it.
func (s *Server) leaveWhenRemoved(ctx context.Context) error {
	select {
	case <-s.removed:
	case <-ctx.Done():
		return nil
	}
	select {
	case <-time.After(removalGrace):
		return transport.ErrRemoved
	case <-ctx.Done():
		return nil
	}
}

// refuseRemoved tells a member that the cluster has removed that it is not to start again.
func (s *Server) refuseRemoved() error {
	if !s.cluster.Removed(s.id) {
		return nil
	}
	return fmt.Errorf("%w: it was %v of cluster %x; remove %s and add the member anew to bring it back", transport.ErrRemoved, s.id, s.clusterID, s.cfg.DataDir)
}

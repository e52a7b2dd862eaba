package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/membershippb"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/kv"
	"holdfast/membership"
)

// followLeadership does the leader's duties while this member leads.
func (s *Server) followLeadership(ctx context.Context) error {
	var ledTerm uint64 // in which this member does the duties; 0 if it does not
	resign := func() {}
	defer func() { resign() }()
	var before kv.MemberID
	for {
		changed := s.replica.LeadershipChange()
		now := s.replica.Status().Leadership
		if leader := kv.MemberID(now.Leader); leader != before {
			at := s.cfg.Now()
			if before != 0 {
				s.leaderLost.Store(&at)
				s.leaderChanges.Add(1)
			}
			if leader != 0 {
				s.leaderElected.Store(&at)
				s.seen.leadersSeen.Add(1)
			}
			s.log.Info("leader changed", "from", before.String(), "to", leader.String(), "term", now.Term)
			before = leader
		}
		var term uint64 // in which this member leads and knows what came before
		if now.Settled && kv.MemberID(now.Leader) == s.id {
			term = now.Term
		}
		if term != ledTerm {
			resign()
			if resign = func() {}; term != 0 {
				resign = s.lead(ctx, term)
			}
			ledTerm = term
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// lead begins the duties of the leader of a term. resign ends them, and returns when they have ended.
func (s *Server) lead(ctx context.Context, term uint64) (resign func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.clock.start(term, s.leases.All, s.cfg.electionTimeout())
	var duties sync.WaitGroup
	duties.Go(func() { s.tendLeases(ctx, term) }) // revokes those that are over
	duties.Go(func() { s.tendVersion(ctx) })      // proposes the cluster's
	duties.Go(func() { s.tendDowngrade(ctx) })    // ends one that is complete
	return func() {
		s.clock.stop()
		cancel()
		duties.Wait()
	}
}

// Leader is the member that leads as far as this one knows; 0 if it knows none.
func (s *Server) Leader() kv.MemberID { return kv.MemberID(s.replica.Status().Leader) }

// leads tells whether this member leads.
func (s *Server) leads() bool { return s.Leader() == s.id }

// awaitLeader waits until this member knows who leads and where that member can be asked.
func (s *Server) awaitLeader(ctx context.Context) (membership.Member, error) {
	for {
		changed := s.replica.LeadershipChange()
		if m, found := s.cluster.Member(s.Leader()); found {
			return m, nil
		}
		select {
		case <-changed:
		case <-time.After(s.cfg.electionTimeout()): // the leader may be one whom this member has yet to hear of
		case <-ctx.Done():
			return membership.Member{}, ErrNoLeader
		case <-s.stopped:
			return membership.Member{}, ErrStopped
		}
	}
}

// MoveLeader hands the leadership to another member.
func (s *Server) MoveLeader(ctx context.Context, to kv.MemberID) error {
	if !s.leads() {
		return ErrNotLeader
	}
	if m, found := s.cluster.Member(to); !found || m.IsLearner {
		return ErrBadLeaderTransferee
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.electionTimeout())
	defer cancel()
	return refusal(s.replica.TransferLeader(ctx, uint64(to)))
}

// publishRetry is the pause between tries to publish.
const publishRetry = 100 * time.Millisecond

// publish tells the cluster this member's name and client URLs.
func (s *Server) publish(ctx context.Context) error {
	for {
		err := s.publishOnce(ctx)
		if err == nil {
			s.log.Info("published local member to cluster through raft", "local-member-id", s.id.String(), "cluster-id", fmt.Sprintf("%x", s.clusterID))
			s.keys.ForgetHashes() // of compactions that were replayed
			close(s.ready)
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrStopped) {
			return nil
		}
		s.log.Warn("failed to publish local member to cluster through raft", "local-member-id", s.id.String(), "error", err)
		select {
		case <-time.After(publishRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Server) publishOnce(ctx context.Context) error {
	failpointBeforePublishing()
	if err := s.awaitCommitted(ctx); err != nil { // what is replayed at start comes first
		return err
	}
	_, err := s.proposeCold(ctx, &pb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
		Member_ID:        uint64(s.id),
		MemberAttributes: &membershippb.Attributes{Name: s.cfg.Name, ClientUrls: s.cfg.ClientURLs},
	}})
	return err
}

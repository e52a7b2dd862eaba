package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"holdfast/apply"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/membership"
)

// Changes of the membership. Each is checked here, against what this member knows of the others, then proposed as a
// configuration change of raft, and checked once more when it is applied, against the state that all members share.

// MemberAdd adds a member that others reach at peerURLs, and returns it and all members. A learner does not vote. Nobody
// has to run there yet.
func (s *Server) MemberAdd(ctx context.Context, peerURLs []string, learner bool) (membership.Member, []membership.Member, error) {
	m := membership.Member{
		ID: membership.MemberID(peerURLs, "", s.cfg.Now().Unix()), PeerURLs: peerURLs, IsLearner: learner,
	}
	if s.cfg.StrictReconfigCheck {
		if err := s.electorate().mayAdd(learner); err != nil {
			s.log.Warn("rejecting member add request", "requested-member-add", m, "error", err)
			return m, nil, err
		}
	}
	kind := raftpb.ConfChangeAddNode
	if learner {
		kind = raftpb.ConfChangeAddLearnerNode
	}
	all, err := s.reconfigure(ctx, kind, m.ID, &m)
	return m, all, err
}

// MemberRemove removes a member and returns the others.
func (s *Server) MemberRemove(ctx context.Context, id kv.MemberID) ([]membership.Member, error) {
	if s.cfg.StrictReconfigCheck && !s.cluster.IsLearner(id) {
		if err := s.electorate().mayRemove(id); err != nil {
			s.log.Warn("rejecting member remove request", "requested-member-remove-id", id.String(), "error", err)
			return nil, err
		}
	}
	return s.reconfigure(ctx, raftpb.ConfChangeRemoveNode, id, nil)
}

// MemberUpdate changes the addresses of a member and returns all members.
func (s *Server) MemberUpdate(ctx context.Context, id kv.MemberID, peerURLs []string) ([]membership.Member, error) {
	return s.reconfigure(ctx, raftpb.ConfChangeUpdateNode, id, &membership.Member{ID: id, PeerURLs: peerURLs})
}

// MemberPromote gives a learner a vote and returns all members. Whether the learner is ready only the leader knows, so
// others pass the question on.
func (s *Server) MemberPromote(ctx context.Context, id kv.MemberID) ([]membership.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.requestTimeout())
	defer cancel()
	for {
		members, err := s.promote(ctx, id)
		switch {
		case err == nil:
			s.seen.promoted.Add(1)
		case errors.Is(err, ErrNotLeader):
		default:
			s.seen.promoteFailures.Inc(err.Error())
		}
		if errors.Is(err, ErrNotLeader) {
			members, err = s.forwardPromote(ctx, id)
		}
		if !errors.Is(err, errNotForwarded) {
			return members, err
		}
		s.log.Warn("could not have a member promoted yet", "member", id.String(), "error", err)
		select {
		case <-time.After(leaderRetry):
		case <-ctx.Done():
			return nil, s.unanswered(ctx, s.cfg.Now())
		case <-s.stopped:
			return nil, ErrStopped
		}
	}
}

// errNotForwarded says that whoever leads gave no answer that counts.
var errNotForwarded = errors.New("the leader did not answer")

// forwardPromote asks the leader to promote a member.
func (s *Server) forwardPromote(ctx context.Context, id kv.MemberID) ([]membership.Member, error) {
	leader, err := s.awaitLeader(ctx)
	if err != nil {
		return nil, err
	}
	q := peerRequest{method: http.MethodPost, path: fmt.Sprintf("/members/promote/%d", uint64(id)), header: tokenHeader(ctx)}
	answer, err := s.peers.ask(ctx, leader.PeerURLs, q)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotForwarded, err)
	}
	return readPromoted(answer)
}

// readPromoted reads what a leader says to a promotion.
func readPromoted(answer *peerAnswer) (members []membership.Member, err error) {
	says := func(err error) bool { return bytes.Contains(answer.body, []byte(err.Error())) }
	switch {
	case answer.status == http.StatusOK:
		if err := json.Unmarshal(answer.body, &members); err != nil {
			return nil, fmt.Errorf("%w: %w", errNotForwarded, err)
		}
		return members, nil
	case answer.status == http.StatusNotFound:
		return nil, membership.ErrNotFound
	case answer.status == http.StatusPreconditionFailed && says(ErrLearnerNotReady):
		return nil, ErrLearnerNotReady
	case answer.status == http.StatusPreconditionFailed && says(membership.ErrNotLearner):
		return nil, membership.ErrNotLearner
	case answer.status == http.StatusForbidden:
		return nil, auth.ErrPermissionDenied
	}
	return nil, fmt.Errorf("%w: status %d: %.200s", errNotForwarded, answer.status, answer.body)
}

// promote is MemberPromote on the leader.
func (s *Server) promote(ctx context.Context, id kv.MemberID) ([]membership.Member, error) {
	if err := s.learnerReady(ctx, id); err != nil {
		return nil, err
	}
	if s.cfg.StrictReconfigCheck {
		if err := s.electorate().mayPromote(); err != nil {
			s.log.Warn("rejecting member promote request", "requested-member-promote-id", id.String(), "error", err)
			return nil, err
		}
	}
	return s.reconfigure(ctx, raftpb.ConfChangeAddNode, id, &changeContext{Member: membership.Member{ID: id}, IsPromote: true})
}

// applyWait is how long a promotion waits until this member has applied what it knows to be committed. etcd's number.
const applyWait = time.Second

func (s *Server) learnerReady(ctx context.Context, id kv.MemberID) error {
	if err := s.awaitApplied(ctx, s.replica.Status().Commit, applyWait); err != nil {
		return refusal(err)
	}
	table, err := s.replica.Progress(ctx)
	if err != nil {
		return refusal(err)
	}
	if err := caughtUp(table, s.id, id); err != nil {
		s.log.Warn("rejecting promote learner", "requested-member-promote-id", id.String(), "match", table[uint64(id)].Match,
			"leader-match", table[uint64(s.id)].Match, "error", err)
		return err
	}
	return nil
}

// electorate is who votes at this moment.
func (s *Server) electorate() *electorate {
	e := &electorate{self: s.id, activeSince: s.activeSince, now: s.cfg.Now()}
	for _, m := range s.cluster.Members() {
		if !m.IsLearner {
			e.voters = append(e.voters, m)
		}
	}
	return e
}

// reconfigure proposes a change and returns the members there are after it. As in etcd only the caller's context bounds how
// long it may take: a change that was proposed cannot be taken back.
func (s *Server) reconfigure(ctx context.Context, kind raftpb.ConfChangeType, member kv.MemberID, describes any) ([]membership.Member, error) {
	began := s.cfg.Now()
	id := s.ids.draw()
	change := &raftpb.ConfChange{Id: &id, Type: kind.Enum(), NodeId: new(uint64(member))}
	if describes != nil {
		var err error
		if change.Context, err = json.Marshal(describes); err != nil {
			return nil, fmt.Errorf("describe member %v: %w", member, err)
		}
	}
	w := s.waiters.add(ctx, id, began, time.Time{})
	if err := s.replica.ProposeConfChange(ctx, change); err != nil {
		s.waiters.leave(id)
		return nil, refusal(err)
	}
	select {
	case r := <-w.done:
		s.waiters.free(w)
		switch {
		case errors.Is(r.Err, ErrTimeout):
			return nil, s.timeoutReason(began)
		case errors.Is(r.Err, ErrStopped) && member == s.id && s.cluster.Removed(s.id):
			// a member that removes itself ends of it, maybe before it is told here
		case r.Err != nil:
			return nil, r.Err
		}
	case <-ctx.Done():
		s.waiters.leave(id)
		return nil, s.unanswered(ctx, began)
	}
	s.log.Info("applied a configuration change through raft", "raft-conf-change", kind.String(), "raft-conf-change-node-id", member.String())
	return s.cluster.Members(), nil
}

// changeSettled answers whoever proposed a configuration change.
func (s *Server) changeSettled(change *raftpb.ConfChange, refused error) {
	s.waiters.deliver(apply.Result{ID: change.GetId(), Err: refused})
}

// unanswered says why a request that began then was not answered when its context ended.
func (s *Server) unanswered(ctx context.Context, began time.Time) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return s.timeoutReason(began)
	}
	return ctx.Err()
}

// activeSince tells since when a member has been connected; the zero time if it is not.
func (s *Server) activeSince(id kv.MemberID) time.Time { return s.transport.ActiveSince(uint64(id)) }

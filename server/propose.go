package server

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/replica"
)

// Put sets a key. draft holds q and belongs to the server from now on.
func (s *Server) Put(ctx context.Context, q *kv.PutRequest, draft kv.Draft) (*kv.PutResult, error) {
	if err := s.needSpace(ctx, apply.CostPut(q)); err != nil {
		return nil, err
	}
	r, err := s.propose(ctx, draft)
	return r.Put, err
}

// DeleteRange removes the keys of a range. draft holds the request and belongs to the server from now on.
func (s *Server) DeleteRange(ctx context.Context, _ *kv.DeleteRangeRequest, draft kv.Draft) (*kv.DeleteRangeResult, error) {
	r, err := s.propose(ctx, draft)
	return r.DeleteRange, err
}

// Txn runs a transaction. draft holds q and belongs to the server from now on. A transaction that only reads takes the
// way of a range.
func (s *Server) Txn(ctx context.Context, q *kv.TxnRequest, draft kv.Draft) (*kv.TxnResult, error) {
	if !q.IsWrite() {
		began := s.cfg.Now()
		r, err := s.readTxn(ctx, q)
		s.seen.requests.Took("ReadonlyTxn", err == nil, s.cfg.Now().Sub(began))
		return r, err
	}
	if err := s.needSpace(ctx, apply.CostTxn(q)); err != nil {
		return nil, err
	}
	r, err := s.propose(ctx, draft)
	return r.Txn, err
}

// Compact drops the history before a revision and returns the store's. If asked to, it waits until the history is gone
// from the disk.
func (s *Server) Compact(ctx context.Context, q kv.CompactRequest) (kv.Revision, error) {
	r, err := s.propose(ctx, kv.DraftCompact(&q))
	if err != nil {
		return 0, err
	}
	if !q.Physical {
		return r.Revision, nil
	}
	select {
	case <-s.keys.CompactDone(q.Revision):
		return r.Revision, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.stopped:
		return 0, ErrStopped
	}
}

// AlarmAction is what Alarm does (etcdserverpb.AlarmRequest.AlarmAction).
type AlarmAction int32

// The alarm actions.
const (
	AlarmGet        AlarmAction = 0
	AlarmActivate   AlarmAction = 1
	AlarmDeactivate AlarmAction = 2
)

// Alarm asks for alarms, sets one or takes one back, and returns those it concerned.
func (s *Server) Alarm(ctx context.Context, action AlarmAction, a membership.Alarm) ([]membership.Alarm, error) {
	r, err := s.proposeCold(ctx, &pb.InternalRaftRequest{Alarm: &pb.AlarmRequest{
		Action: pb.AlarmRequest_AlarmAction(action), MemberID: uint64(a.Member), Alarm: pb.AlarmType(a.Type),
	}})
	return r.Alarms, err
}

// propose makes a draft an entry of the log and waits for what becomes of it.
func (s *Server) propose(ctx context.Context, draft kv.Draft) (apply.Result, error) {
	header, err := s.header(ctx)
	if err != nil {
		return apply.Result{}, err
	}
	payload := draft.Seal(header)
	if len(payload) > s.cfg.RequestBytesMax {
		return apply.Result{}, ErrRequestTooLarge
	}
	return s.proposePayload(ctx, header.ID, payload)
}

// proposeCold is propose for the requests that members make for each other. No client's bound holds for them: without them
// the member cannot serve.
func (s *Server) proposeCold(ctx context.Context, q *pb.InternalRaftRequest) (apply.Result, error) {
	header, err := s.header(ctx)
	if err != nil {
		return apply.Result{}, err
	}
	payload, err := kv.EncodeCold(header, q)
	if err != nil {
		return apply.Result{}, err
	}
	return s.proposePayload(ctx, header.ID, payload)
}

func (s *Server) proposePayload(ctx context.Context, id uint64, payload []byte) (apply.Result, error) {
	s.cfg.Tracing.Event(ctx, "Send raft proposal")
	p, err := s.enqueue(ctx, 0, id, payload)
	if err != nil {
		return apply.Result{}, err
	}
	r, err := s.outcome(ctx, p)
	if err == nil {
		s.cfg.Tracing.Event(ctx, "Receive raft result")
	}
	return r, err
}

// proposed is a request that is to become an entry of the log.
type proposed struct {
	op    string // etcd's name for it
	id    uint64
	w     *waiter
	began time.Time
}

// enqueue asks for an entry, without waiting. With a term, it comes to be only if this member leads in that term, and there
// is no outcome if it does not. Every request is handed to outcome.
func (s *Server) enqueue(ctx context.Context, term, id uint64, payload []byte) (proposed, error) {
	began := s.cfg.Now()
	w := s.waiters.add(ctx, id, began, began.Add(s.cfg.requestTimeout()))
	if err := s.replica.ProposeInTerm(w, term, payload); err != nil {
		s.waiters.leave(id)
		s.seen.proposalsFailed.Add(1)
		s.seen.requests.Took(operationOf(payload), false, s.cfg.Now().Sub(began))
		return proposed{}, refusal(err)
	}
	return proposed{operationOf(payload), id, w, began}, nil
}

// outcome waits for what becomes of a request.
func (s *Server) outcome(ctx context.Context, p proposed) (r apply.Result, err error) {
	defer func() { s.seen.requests.Took(p.op, err == nil, s.cfg.Now().Sub(p.began)) }()
	select {
	case r := <-p.w.done:
		s.waiters.free(p.w)
		if errors.Is(r.Err, ErrTimeout) {
			s.seen.proposalsFailed.Add(1)
			r.Err = s.timeoutReason(p.began)
		}
		return r, r.Err
	case <-ctx.Done():
		s.waiters.leave(p.id)
		s.seen.proposalsFailed.Add(1)
		return apply.Result{}, ctx.Err()
	}
}

// refusal names the replica's errors in the server's words.
func refusal(err error) error {
	switch {
	case errors.Is(err, replica.ErrTooManyRequests):
		return ErrTooManyRequests
	case errors.Is(err, replica.ErrStopped):
		return ErrStopped
	case errors.Is(err, replica.ErrLeaderChanged):
		return ErrLeaderChanged
	case errors.Is(err, replica.ErrTimeout):
		return ErrTimeout
	case errors.Is(err, replica.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, replica.ErrBadTransferee):
		return ErrBadLeaderTransferee
	case errors.Is(err, replica.ErrTransferTimeout):
		return ErrLeaderTransferTimeout
	}
	return err
}

// timeoutReason says why a request that began then was not answered, as far as this member can tell. The distinctions are
// etcd's: without a leader from the beginning a request does not get as far as raft, and is told that its time is over.
func (s *Server) timeoutReason(began time.Time) error {
	leader, lost, elected := s.Leader(), s.leaderLost.Load(), s.leaderElected.Load()
	switch {
	case leader == 0 && (lost == nil || lost.Before(began)):
		return context.DeadlineExceeded
	case elected != nil && began.Before(*elected) && began.After(elected.Add(-2*s.cfg.electionTimeout())):
		return ErrTimeoutLeaderFail
	case leader == s.id && !s.connectedToQuorum(began), leader != 0 && leader != s.id && !s.connected(leader, began):
		return ErrTimeoutConnectionLost
	}
	return ErrTimeout
}

// connected tells whether a member can be reached, and could all the time since then.
func (s *Server) connected(id kv.MemberID, since time.Time) bool {
	from := s.activeSince(id)
	return !from.IsZero() && from.Before(since)
}

// connectedToQuorum is connected for a majority of the members, this one among them.
func (s *Server) connectedToQuorum(since time.Time) bool {
	members, n := s.cluster.Members(), 0
	for _, m := range members {
		if m.ID == s.id || s.connected(m.ID, since) {
			n++
		}
	}
	return n >= majority(len(members))
}

// waiterSweep is how often requests are looked at that take too long. Their limit is in seconds.
const waiterSweep = 250 * time.Millisecond

// expireWaiters answers requests that take too long.
func (s *Server) expireWaiters(ctx context.Context) error {
	tick := time.NewTicker(waiterSweep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.waiters.expire(s.cfg.Now(), ErrTimeout)
		case <-ctx.Done():
			return nil
		}
	}
}

// poke fills a one-slot channel.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

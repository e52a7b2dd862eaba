package server

import (
	"cmp"
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/replica"
)

// LeaseGrant makes a lease. With id 0 the server chooses one.
func (s *Server) LeaseGrant(ctx context.Context, q kv.LeaseGrantRequest) (lease.Lease, error) {
	for q.ID == 0 {
		q.ID = kv.LeaseID(s.ids.draw() &^ (1 << 63))
	}
	if err := s.needSpace(ctx, apply.CostLease()); err != nil {
		return lease.Lease{}, err
	}
	if err := s.CheckUser(ctx); err != nil {
		return lease.Lease{}, err
	}
	r, err := s.propose(ctx, kv.DraftLeaseGrant(&q))
	return r.Lease, err
}

// LeaseRevoke ends a lease and deletes its keys.
func (s *Server) LeaseRevoke(ctx context.Context, id kv.LeaseID) error {
	if err := s.CheckUser(ctx); err != nil {
		return err
	}
	_, err := s.propose(ctx, kv.DraftLeaseRevoke(&kv.LeaseRevokeRequest{ID: id}))
	return err
}

// LeaseRenew gives a lease its full life again and returns it in seconds. Only the leader can; another member asks it, as who
// may: only who could write all its keys.
func (s *Server) LeaseRenew(ctx context.Context, id kv.LeaseID) (ttl int64, err error) {
	permitted := func() error { return s.guardLeases(ctx, kv.Write, s.leases.Keys, id) }
	err = s.atLeader(ctx, func(ctx context.Context) (err error) {
		ttl, err = s.renewHere(ctx, id, permitted)
		return err
	}, func(ctx context.Context, leader string) (err error) {
		if err := permitted(); err != nil {
			return unasked{err}
		}
		ttl, err = s.peers.renewLease(ctx, leader, id)
		return err
	})
	return ttl, err
}

// LeaseRenewHere is LeaseRenew where the leader is asked by another member; ErrNotLeader if this is not the leader. A lease
// that is over but not yet revoked is waited for, so that no client hears of a life that is about to end; if the leadership
// is lost meanwhile, the next leader decides whether it lives on.
func (s *Server) LeaseRenewHere(ctx context.Context, id kv.LeaseID) (int64, error) {
	return s.renewHere(ctx, id, func() error { return nil })
}

// renewHere asks what is permitted when all that was committed before is applied.
func (s *Server) renewHere(ctx context.Context, id kv.LeaseID, permitted func() error) (int64, error) {
	for {
		if err := s.awaitClock(ctx); err != nil {
			return 0, err
		}
		if err := permitted(); err != nil {
			return 0, err
		}
		r := s.clock.renew(id)
		switch {
		case r.term == 0: // stopped since
		case !r.found:
			return 0, lease.ErrNotFound
		case r.over == nil && r.shortened:
			s.seen.leasesRenewed.Add(1)
			return int64(r.ttl / time.Second), s.agreeOnWhole(ctx, id, r)
		case r.over == nil:
			s.seen.leasesRenewed.Add(1)
			return int64(r.ttl / time.Second), nil
		default:
			if err := s.await(ctx, r.over); err != nil {
				return 0, err
			}
		}
	}
}

// agreeOnWhole tells the members that a lease has its whole life again.
func (s *Server) agreeOnWhole(ctx context.Context, id kv.LeaseID, r renewal) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.agreeing.Lock()
	p, err := s.enqueueCheckpoints(ctx, r.term, []lease.Lease{{ID: id}})
	s.agreeing.Unlock()
	if err != nil {
		return err
	}
	go func() { // ends with ctx
		select {
		case <-r.stopped:
			cancel(ErrNotLeader)
		case <-ctx.Done():
		}
	}()
	if _, err := s.outcome(ctx, p); err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	s.clock.whole(id, r.term, r.checkpoints)
	return nil
}

// await waits until c is closed.
func (s *Server) await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return ErrStopped
	}
}

// awaitClock waits until this member, confirmed as the leader by the others, has applied what was committed before, and its
// clock decides over leases: a leader just elected takes them over first. On others the answer is ErrNotLeader.
func (s *Server) awaitClock(ctx context.Context) error {
	for {
		running, changed := s.clock.runs(), s.replica.LeadershipChange()
		if !s.leads() {
			return ErrNotLeader
		}
		select {
		case <-running:
		case <-changed:
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped:
			return ErrStopped
		}
		confirmed := s.replica.AskReadIndex()
		select {
		case <-confirmed.Done():
		case <-changed:
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		index, err := confirmed.Index()
		if err == nil {
			// etcd gives up after a second, or does not wait at all (feature gate FastLeaseKeepAlive); but a lease that a client
			// knows to be revoked must not be renewed, and one whose renewal fails only because the member is busy would be lost.
			err = s.awaitApplied(ctx, index, s.cfg.requestTimeout())
		}
		if err == nil && !s.leads() || errors.Is(err, replica.ErrLeaderChanged) {
			return ErrNotLeader
		}
		return refusal(err)
	}
}

// awaitApplied waits until this member has applied an index; after the time given it is ErrAppliedTimeout.
func (s *Server) awaitApplied(ctx context.Context, index uint64, atMost time.Duration) error {
	if s.replica.Status().Applied >= index {
		return nil
	}
	within, cancel := context.WithTimeoutCause(ctx, atMost, ErrAppliedTimeout)
	defer cancel()
	if err := s.replica.WaitApplied(within, index); within.Err() == nil {
		return err
	}
	return context.Cause(within)
}

// LeaseStatus is the state of a lease.
type LeaseStatus struct {
	// Granted is its whole life, Remaining what is left of it, in seconds.
	Granted, Remaining int64
	Keys               [][]byte // those that hang on it, in order, if asked for
}

// LeaseTimeToLive tells how long a lease has to live. Only the leader knows; another member asks it. The keys are for who may
// read each of them.
func (s *Server) LeaseTimeToLive(ctx context.Context, id kv.LeaseID, keys bool) (status LeaseStatus, err error) {
	if err := s.CheckUser(ctx); err != nil {
		return LeaseStatus{}, err
	}
	err = s.atLeader(ctx, func(ctx context.Context) (err error) {
		status, err = s.LeaseTimeToLiveHere(ctx, id, keys)
		return err
	}, func(ctx context.Context, leader string) (err error) {
		status, err = s.peers.leaseTimeToLive(ctx, leader, id, keys)
		return err
	})
	if err == nil && keys {
		// The keys that were found are asked for, not those that this member knows of.
		err = s.guardLeases(ctx, kv.Read, func(kv.LeaseID) [][]byte { return status.Keys }, id)
	}
	if err != nil {
		return LeaseStatus{}, err
	}
	return status, nil
}

// LeaseTimeToLiveHere is LeaseTimeToLive where the leader is asked by another member; ErrNotLeader if this is not the leader.
func (s *Server) LeaseTimeToLiveHere(ctx context.Context, id kv.LeaseID, keys bool) (LeaseStatus, error) {
	if err := s.awaitClock(ctx); err != nil {
		return LeaseStatus{}, err
	}
	remaining, running, found := s.clock.remaining(id)
	l, exists := s.leases.Lookup(id)
	switch {
	case !running:
		return LeaseStatus{}, ErrNotLeader
	case !found || !exists:
		return LeaseStatus{}, lease.ErrNotFound
	}
	status := LeaseStatus{Granted: l.TTL, Remaining: remaining}
	if keys {
		status.Keys = s.leases.Keys(id)
	}
	return status, nil
}

// Leases are the leases this member knows, in the order in which they end where it knows that. They are for who may read
// every key of each.
func (s *Server) Leases(ctx context.Context) ([]kv.LeaseID, error) {
	ids := s.leaseIDs()
	if err := s.guardLeases(ctx, kv.Read, s.leases.Keys, ids...); err != nil {
		return nil, err
	}
	return ids, nil
}

func (s *Server) leaseIDs() []kv.LeaseID {
	if s.clock.isRunning() {
		return s.clock.byEnd()
	}
	all := s.leases.All()
	ids := make([]kv.LeaseID, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	return ids
}

const (
	// revokeBatch bounds the revocations that are under way at once: many leases that end together are done within seconds,
	// and other writes still find room between them.
	revokeBatch = 256
	// revokePause is after how long revocations that found the queue full are tried again.
	revokePause = 100 * time.Millisecond
)

// tendLeases revokes leases that are over and makes the members agree on what is left of others, while this member leads in
// the term.
func (s *Server) tendLeases(ctx context.Context, term uint64) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := s.tendOnce(ctx, term)
		wait := time.Hour // until the clock has something to tell
		if !next.IsZero() {
			wait = max(next.Sub(s.cfg.Now()), 0)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.clock.changed:
		case <-ctx.Done():
			return
		}
	}
}

// tendOnce does what is to be done now, waits until it is applied and says when to come again. Everything is proposed for
// the term only: a leader that was frozen, and wakes when another leads, ends no lease. What fails comes up again.
func (s *Server) tendOnce(ctx context.Context, term uint64) (next time.Time) {
	ctx, cancel := context.WithTimeout(ctx, revokeRetry)
	defer cancel()
	s.agreeing.Lock()
	todo := s.clock.look()
	asked, errs := s.enqueueRevocations(ctx, term, todo.over)
	if len(todo.checkpoints) > 0 {
		if p, err := s.enqueueCheckpoints(ctx, term, todo.checkpoints); err != nil {
			errs = append(errs, err)
		} else {
			asked = append(asked, p)
		}
	}
	s.agreeing.Unlock()
	for _, p := range asked {
		if _, err := s.outcome(ctx, p); !errors.Is(err, lease.ErrNotFound) { // else somebody was faster
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil && !errors.Is(err, context.Canceled) {
		s.log.Warn("could not revoke or checkpoint leases; it is tried again", "over", len(todo.over), "checkpoints", len(todo.checkpoints), "error", err)
	}
	return todo.next
}

// enqueueRevocations proposes to revoke leases. While a member is corrupt every one would be refused.
func (s *Server) enqueueRevocations(ctx context.Context, term uint64, over []kv.LeaseID) (asked []proposed, errs []error) {
	if s.cluster.HasAlarm(membership.AlarmCorrupt) {
		return nil, nil
	}
	for i, id := range over {
		request := s.ids.draw()
		draft := kv.DraftLeaseRevoke(&kv.LeaseRevokeRequest{ID: id})
		p, err := s.enqueue(ctx, term, request, draft.Seal(s.asRoot(request)))
		if err != nil {
			s.clock.again(over[i:], revokePause)
			return asked, []error{err}
		}
		s.seen.leasesExpired.Add(1)
		asked = append(asked, p)
	}
	return asked, nil
}

// enqueueCheckpoints proposes to agree on what is left of leases; 0 stands for the whole life.
func (s *Server) enqueueCheckpoints(ctx context.Context, term uint64, leases []lease.Lease) (proposed, error) {
	q := &pb.LeaseCheckpointRequest{}
	for _, l := range leases {
		q.Checkpoints = append(q.Checkpoints, &pb.LeaseCheckpoint{ID: int64(l.ID), Remaining_TTL: l.Remaining})
	}
	id := s.ids.draw()
	payload, err := kv.EncodeCold(kv.CommandHeader{ID: id}, &pb.InternalRaftRequest{LeaseCheckpoint: q})
	if err != nil {
		return proposed{}, err
	}
	return s.enqueue(ctx, term, id, payload)
}

package server

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
)

// LeaseGrant makes a lease. With id 0 the server chooses one.
func (s *Server) LeaseGrant(ctx context.Context, q kv.LeaseGrantRequest) (lease.Lease, error) {
	for q.ID == 0 {
		q.ID = kv.LeaseID(s.ids.draw() &^ (1 << 63))
	}
	if err := s.needSpace(ctx, apply.CostLease()); err != nil {
		return lease.Lease{}, err
	}
	r, err := s.propose(ctx, kv.DraftLeaseGrant(&q))
	return r.Lease, err
}

// LeaseRevoke ends a lease and deletes its keys.
func (s *Server) LeaseRevoke(ctx context.Context, id kv.LeaseID) error {
	_, err := s.propose(ctx, kv.DraftLeaseRevoke(&kv.LeaseRevokeRequest{ID: id}))
	return err
}

// LeaseRenew gives a lease its full life again and returns it in seconds. A lease that is over but not yet revoked is
// waited for, so that no client hears of a life that is about to end; if the leadership is lost meanwhile, the next
// leader decides whether it lives on.
func (s *Server) LeaseRenew(ctx context.Context, id kv.LeaseID) (int64, error) {
	for {
		if err := s.awaitCommitted(ctx); err != nil {
			return 0, err
		}
		if err := s.awaitClock(ctx); err != nil {
			return 0, err
		}
		r := s.clock.renew(id)
		switch {
		case !r.running: // stopped since
		case !r.found:
			return 0, lease.ErrNotFound
		case r.over == nil && r.Remaining > 0:
			return r.TTL, s.checkpoint(ctx, []lease.Lease{{ID: id}})
		case r.over == nil:
			return r.TTL, nil
		default:
			if err := s.await(ctx, r.over); err != nil {
				return 0, err
			}
		}
	}
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

// awaitClock waits until this member's clock decides over leases. A leader just elected takes the leases over first: a
// client that comes at that moment is not to be told that there is no leader. On other members the answer is ErrNotLeader.
func (s *Server) awaitClock(ctx context.Context) error {
	timeout := time.NewTimer(s.cfg.requestTimeout())
	defer timeout.Stop()
	for {
		running, changed := s.clock.runs(), s.replica.LeadershipChange()
		if leader := s.Leader(); leader != 0 && leader != s.id {
			return ErrNotLeader
		}
		select {
		case <-running:
			return nil
		case <-changed:
		case <-timeout.C:
			return ErrNoLeader
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped:
			return ErrStopped
		}
	}
}

// LeaseStatus is the state of a lease.
type LeaseStatus struct {
	// Granted is its whole life, Remaining what is left of it, in seconds.
	Granted, Remaining int64
	Keys               [][]byte // those that hang on it, in order, if asked for
}

// LeaseTimeToLive tells how long a lease has to live.
func (s *Server) LeaseTimeToLive(ctx context.Context, id kv.LeaseID, keys bool) (LeaseStatus, error) {
	if err := s.awaitCommitted(ctx); err != nil {
		return LeaseStatus{}, err
	}
	if err := s.awaitClock(ctx); err != nil {
		return LeaseStatus{}, err
	}
	l, found := s.leases.Lookup(id)
	remaining, running := s.clock.remaining(id)
	if !found || !running {
		return LeaseStatus{}, lease.ErrNotFound
	}
	status := LeaseStatus{Granted: l.TTL, Remaining: remaining}
	if keys {
		status.Keys = s.leases.Keys(id)
	}
	return status, nil
}

// Leases are the leases this member knows, in the order in which they end where it knows that.
func (s *Server) Leases() []kv.LeaseID {
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

// revokeBatch bounds the revocations that are under way at once: many leases that end together are done within seconds,
// and other writes still find room between them.
const revokeBatch = 256

// expireLeases proposes to revoke leases that are over, while this member leads.
func (s *Server) expireLeases(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ids, next := s.clock.over(revokeBatch)
		s.revokeAll(ctx, ids)
		wait := time.Hour // until the clock has something to tell
		if !next.IsZero() {
			wait = max(next.Sub(s.cfg.Now()), 0)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.clock.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// revokeAll proposes revocations together and waits until all are applied. One that fails comes up again. While a member is
// corrupt every one would be refused.
func (s *Server) revokeAll(ctx context.Context, ids []kv.LeaseID) {
	if len(ids) == 0 || s.cluster.HasAlarm(membership.AlarmCorrupt) {
		return
	}
	waiting, cancel := context.WithTimeout(ctx, revokeRetry)
	defer cancel()
	var g errgroup.Group
	for _, id := range ids {
		g.Go(func() error {
			if err := s.LeaseRevoke(waiting, id); !errors.Is(err, lease.ErrNotFound) {
				return err
			}
			return nil // somebody else was faster
		})
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		s.log.Warn("could not revoke leases that are over; it is tried again", "leases", len(ids), "error", err)
	}
}

// checkpointSweep is how often long-lived leases are looked at for a checkpoint.
const checkpointSweep = 30 * time.Second

// checkpointLeases makes the members agree on what is left of long-lived leases, while this member leads.
func (s *Server) checkpointLeases(ctx context.Context) error {
	tick := time.NewTicker(checkpointSweep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		for due := s.clock.checkpoints(); len(due) > 0; {
			n := min(len(due), checkpointBatch)
			if err := s.checkpoint(ctx, due[:n]); err != nil && ctx.Err() == nil {
				s.log.Warn("could not checkpoint leases; a new leader would give them their whole life", "leases", n, "error", err)
			}
			due = due[n:]
		}
	}
}

func (s *Server) checkpoint(ctx context.Context, leases []lease.Lease) error {
	q := &pb.LeaseCheckpointRequest{}
	for _, l := range leases {
		q.Checkpoints = append(q.Checkpoints, &pb.LeaseCheckpoint{ID: int64(l.ID), Remaining_TTL: l.Remaining})
	}
	_, err := s.proposeCold(ctx, &pb.InternalRaftRequest{LeaseCheckpoint: q})
	if errors.Is(err, lease.ErrNotFound) {
		return nil
	}
	return err
}

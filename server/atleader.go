package server

import (
	"context"
	"errors"
	"time"

	"holdfast/lease"
	"holdfast/membership"
)

// leaderRetry is the pause before a leader that did not answer, or the next one, is asked again, as in etcd.
const leaderRetry = 50 * time.Millisecond

// atLeader has the leader decide: this member by here if it leads, else the one that does by there, at each of its peer URLs
// in turn. Who turns out not to lead, or cannot be reached, is asked again after a pause, or its successor, until the time
// of a request is over. As in etcd, every error from elsewhere but lease.ErrNotFound counts as not reached; unasked is not
// from elsewhere.
func (s *Server) atLeader(ctx context.Context, here func(context.Context) error, there func(ctx context.Context, url string) error) error {
	if s.leads() {
		if err := here(ctx); !errors.Is(err, ErrNotLeader) {
			return err
		}
	}
	within, cancel := context.WithTimeout(ctx, s.cfg.requestTimeout())
	defer cancel()
	for within.Err() == nil {
		leader, err := s.awaitLeader(within)
		if err != nil {
			return err
		}
		if leader.ID == s.id {
			if err := here(within); !errors.Is(err, ErrNotLeader) && within.Err() == nil {
				return err
			}
		} else if decided, err := s.askLeader(within, leader, there); decided {
			return err
		}
		select {
		case <-time.After(leaderRetry):
		case <-within.Done():
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return ErrTimeout
}

// askLeader asks another member at each of its peer URLs in turn, as long as it leads, and tells whether it decided.
func (s *Server) askLeader(ctx context.Context, leader membership.Member, ask func(ctx context.Context, url string) error) (decided bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with ctx: who leads no more may never answer
		s.awaitOtherLeader(ctx, leader)
		cancel()
	}()
	for _, url := range leader.PeerURLs {
		err = ask(ctx, url)
		if err == nil || errors.Is(err, lease.ErrNotFound) || errors.As(err, new(unasked)) {
			return true, err
		}
		s.log.Debug("the leader did not answer", "leader", leader.ID.String(), "url", url, "error", err)
	}
	return false, err
}

// unasked is why this member has not asked the leader.
type unasked struct{ error }

// Unwrap gives the reason.
func (u unasked) Unwrap() error { return u.error }

// awaitOtherLeader waits until another member than leader leads, or none.
func (s *Server) awaitOtherLeader(ctx context.Context, leader membership.Member) {
	for {
		changed := s.replica.LeadershipChange()
		if s.Leader() != leader.ID {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

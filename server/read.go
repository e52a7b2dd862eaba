package server

import (
	"context"
	"errors"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/watch"
)

// awaitCommitted waits until this member has applied everything that was committed when it was called.
func (s *Server) awaitCommitted(ctx context.Context) error {
	index, err := s.replica.ReadIndex(ctx)
	if err != nil {
		return refusal(err)
	}
	return refusal(s.replica.WaitApplied(ctx, index))
}

// Range reads keys. Unless the request is serializable it sees every write that was acknowledged before it.
func (s *Server) Range(ctx context.Context, q *kv.RangeRequest) (*kv.RangeResult, error) {
	answer, _, err := s.RangeWithin(ctx, q, nil)
	return answer, err
}

// RangeWithin is Range as far as there is room for the rows; the others are left in the rest (mvcc.Store.RangeWithin).
func (s *Server) RangeWithin(ctx context.Context, q *kv.RangeRequest, room mvcc.Room) (answer *kv.RangeResult, rest *mvcc.Rest, err error) {
	began := s.cfg.Now()
	reading := began
	if !q.Serializable {
		if err := s.awaitCommitted(ctx); err != nil {
			s.seen.requests.Took("Range", false, s.cfg.Now().Sub(began))
			return nil, nil, err
		}
		s.cfg.Tracing.Event(ctx, "Applied up to the read index")
		reading = s.cfg.Now()
	}
	s.seen.reading.Add(1)
	err = s.guard(ctx, func() []kv.Access { return q.Accesses(nil) }, func() (err error) {
		answer, rest, err = s.keys.RangeWithin(ctx, q, room)
		return err
	})
	s.seen.reading.Add(-1)
	ended := s.cfg.Now()
	s.seen.ranges.Took("", err == nil, ended.Sub(reading))
	s.seen.requests.Took("Range", err == nil, ended.Sub(began))
	if err != nil {
		return nil, nil, errors.Join(err, rest.Release())
	}
	return answer, rest, nil
}

// RangeBytes guesses how many bytes of rows lie in a range.
func (s *Server) RangeBytes(r kv.KeyRange) int64 { return s.keys.RangeBytes(r) }

// readTxn runs a transaction that only reads.
func (s *Server) readTxn(ctx context.Context, q *kv.TxnRequest) (answer *kv.TxnResult, err error) {
	if !q.IsSerializable() {
		if err := s.awaitCommitted(ctx); err != nil {
			return nil, err
		}
	}
	err = s.guard(ctx, func() []kv.Access { return q.Accesses(nil, s.leases.Keys) }, func() (err error) {
		answer, err = apply.ReadTxn(ctx, s.keys, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(answer.Responses) > 1 {
		s.seen.readTxns.Add(1)
	}
	return answer, nil
}

// NewWatchStream makes a stream of watches; whether each is permitted is for the caller to ask CheckWatch. wake must return at once; it says that Next may have something.
func (s *Server) NewWatchStream(wake func()) *watch.Stream { return s.hub.NewStream(wake) }

// HashKV sums the keys up to a revision; 0 is the current one.
func (s *Server) HashKV(ctx context.Context, rev kv.Revision) (mvcc.Hash, error) {
	began := s.cfg.Now()
	hash, err := s.keys.HashKV(ctx, rev)
	if err == nil {
		s.seen.revisionHashes.Took(s.cfg.Now().Sub(began))
	}
	return hash, err
}

// Members are the members of the cluster, as this member knows them or, linearizable, as they were when it was asked.
func (s *Server) Members(ctx context.Context, linearizable bool) ([]membership.Member, error) {
	if linearizable {
		if err := s.awaitCommitted(ctx); err != nil {
			return nil, err
		}
	}
	return s.cluster.Members(), nil
}

// Header says who answers, in which term, at which revision.
func (s *Server) Header() kv.Header {
	return kv.Header{
		ClusterID: s.clusterID, MemberID: s.id, Revision: s.keys.Revision(), RaftTerm: kv.Term(s.replica.Status().Term),
	}
}

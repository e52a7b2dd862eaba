package server

import (
	"context"
	"errors"
	"time"

	"holdfast/kv"
	"holdfast/mvcc"
)

// AutoCompaction says what of the history is kept. At most one field is set; the zero value keeps everything.
type AutoCompaction struct {
	// Period keeps what is younger.
	Period time.Duration
	// Revisions keeps so many.
	Revisions int64
}

// compactEvery is how often the history is compacted when a number of revisions is kept, as in etcd.
const compactEvery = 5 * time.Minute

// autoCompact compacts the history while this member leads.
func (s *Server) autoCompact(ctx context.Context) error {
	switch {
	case s.cfg.AutoCompaction.Period > 0:
		s.compactByPeriod(ctx, s.cfg.AutoCompaction.Period)
	case s.cfg.AutoCompaction.Revisions > 0:
		s.compactByRevision(ctx, kv.Revision(s.cfg.AutoCompaction.Revisions))
	}
	return nil
}

// sampleOf is how often the revision is noted to know what it was a period ago: a tenth of the period, or of an hour if
// that is less; and how often the history is compacted.
func sampleOf(period time.Duration) (sample, interval time.Duration) {
	interval = min(period, time.Hour)
	return interval / 10, interval
}

// compactByPeriod compacts, first after a whole period and then every hour or every period if that is less, at the revision
// of a period ago. A try that fails is repeated at the next sample.
func (s *Server) compactByPeriod(ctx context.Context, period time.Duration) {
	sample, interval := sampleOf(period)
	kept := int(period/sample) + 1
	var samples []kv.Revision // the first is a period old once there are kept of them
	wait, last, lastAt := period, kv.Revision(0), s.cfg.Now()
	tick := time.NewTicker(sample)
	defer tick.Stop()
	for {
		samples = append(samples, s.keys.Revision())
		samples = samples[max(0, len(samples)-kept):]
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		rev := samples[0]
		if !s.leads() || s.cfg.Now().Sub(lastAt) < wait || rev == last {
			continue
		}
		wait = interval
		if s.compactAt(ctx, rev) {
			last, lastAt = rev, s.cfg.Now()
		}
	}
}

// compactByRevision compacts so that keep revisions stay.
func (s *Server) compactByRevision(ctx context.Context, keep kv.Revision) {
	tick := time.NewTicker(compactEvery)
	defer tick.Stop()
	last := kv.Revision(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		rev := s.keys.Revision() - keep
		if s.leads() && rev > 0 && rev != last && s.compactAt(ctx, rev) {
			last = rev
		}
	}
}

// compactAt compacts and tells whether the history below rev is gone.
func (s *Server) compactAt(ctx context.Context, rev kv.Revision) bool {
	_, err := s.Compact(ctx, kv.CompactRequest{Revision: rev})
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		if ctx.Err() == nil {
			s.log.Warn("failed auto compaction; it is tried again", "revision", int64(rev), "error", err)
		}
		return false
	}
	s.log.Info("completed auto compaction", "revision", int64(rev))
	return true
}

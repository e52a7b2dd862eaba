package server

import (
	"errors"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"holdfast/kv"
	"holdfast/lease"
	"holdfast/metrics"
	"holdfast/mvcc"
	"holdfast/replica"
)

// instruments are what a member counts as it happens. What parts count by themselves is in their Stats.
type instruments struct {
	now func() time.Time

	logWritten, logSynced *metrics.Histogram

	requests, applies, ranges      *metrics.Outcomes
	proposalsFailed, slowApplies   atomic.Uint64
	readTxns                       atomic.Uint64 // of more than one operation
	reading                        atomic.Int64  // ranges under way
	commits                        *metrics.Histogram
	hashes, revisionHashes         *metrics.Histogram
	defrags, snapshots, statesKept *metrics.Histogram

	compactionSteps, compactions *metrics.Histogram
	compactedAt                  atomic.Int64 // Unix time; 0: none since the start

	leasesGranted, leasesRevoked, leasesRenewed, leasesExpired atomic.Uint64
	leaseTTLs                                                  *metrics.Histogram

	leadersSeen, promoted, lateHeartbeats atomic.Uint64
	promoteFailures                       *metrics.Counters

	// compacting is when the removal under way began, zero if none is: that of the goroutine that does it.
	compacting time.Time
	// step is when the applier began what it is doing: its alone.
	step time.Time
}

func newInstruments(set *metrics.Set, now func() time.Time) *instruments {
	return &instruments{
		now:        now,
		logWritten: set.Histogram(metrics.WALWriteDuration), logSynced: set.Histogram(metrics.WALSyncDuration),
		requests: set.Outcomes(metrics.RequestDuration, func(op, success string) []string { return []string{op, success} }),
		applies:  set.Outcomes(metrics.ApplyDuration, func(op, success string) []string { return []string{"v3", op, success} }),
		ranges:   set.Outcomes(metrics.RangeDuration, func(_, success string) []string { return []string{success} }),
		commits:  set.Histogram(metrics.CommitDuration),
		hashes:   set.Histogram(metrics.HashDuration), revisionHashes: set.Histogram(metrics.HashRevDuration),
		defrags: set.Histogram(metrics.DefragDuration), snapshots: set.Histogram(metrics.SnapshotDuration),
		statesKept:      set.Histogram(metrics.SnapDBSave),
		compactionSteps: set.Histogram(metrics.CompactionPause), compactions: set.Histogram(metrics.CompactionTime),
		leaseTTLs:       set.Histogram(metrics.LeaseTTL),
		promoteFailures: set.Counters(metrics.PromoteFailures),
	}
}

// sample shows the counters; histograms are shown by themselves.
func (i *instruments) sample(out *metrics.Sample) {
	for f, n := range map[*metrics.Family]*atomic.Uint64{
		metrics.ProposalsFailed: &i.proposalsFailed, metrics.SlowApplies: &i.slowApplies,
		metrics.LeasesGranted: &i.leasesGranted, metrics.LeasesRevoked: &i.leasesRevoked,
		metrics.LeasesRenewed: &i.leasesRenewed, metrics.LeasesExpired: &i.leasesExpired,
		metrics.LeaderChanges: &i.leadersSeen, metrics.PromoteSuccesses: &i.promoted, metrics.LateHeartbeats: &i.lateHeartbeats,
	} {
		out.Set(f, float64(n.Load()))
	}
	out.Set(metrics.OpenReads, float64(i.reading.Load()))
	out.Set(metrics.CompactionLast, float64(i.compactedAt.Load()))
}

// compactionStep counts a step of the removal of old revisions. It belongs to the goroutine that does them.
func (i *instruments) compactionStep(began time.Time, last bool) {
	now := i.now()
	if i.compacting.IsZero() {
		i.compacting = began
	}
	i.compactionSteps.Observe(milliseconds(now.Sub(began)))
	if last {
		i.compactions.Observe(milliseconds(now.Sub(i.compacting)))
		i.compactedAt.Store(now.Unix())
		i.compacting = time.Time{}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Wrote implements raftlog.Observer.
func (i *instruments) Wrote(_ int, took time.Duration) { i.logWritten.Took(took) }

// Synced implements raftlog.Observer.
func (i *instruments) Synced(took time.Duration) { i.logSynced.Took(took) }

// Applying implements apply.Observer.
func (i *instruments) Applying() { i.step = i.now() }

// Applied implements apply.Observer. A compaction that came too late is no failure, as in etcd.
func (i *instruments) Applied(payload []byte, err error) {
	now := i.now()
	i.applies.Took(operationOf(payload), err == nil || errors.Is(err, mvcc.ErrCompacted), now.Sub(i.step))
	i.step = now
}

// Committing implements apply.Observer.
func (i *instruments) Committing() { i.step = i.now() }

// Committed implements apply.Observer.
func (i *instruments) Committed() { i.commits.Took(i.now().Sub(i.step)) }

// seenLeases counts what the lease clock hears.
type seenLeases struct {
	*leaseClock
	seen *instruments
}

// Granted implements apply.Leases.
func (s seenLeases) Granted(l lease.Lease) {
	s.seen.leasesGranted.Add(1)
	s.seen.leaseTTLs.Observe(float64(l.TTL))
	s.leaseClock.Granted(l)
}

// Revoked implements apply.Leases.
func (s seenLeases) Revoked(id kv.LeaseID) {
	s.seen.leasesRevoked.Add(1)
	s.leaseClock.Revoked(id)
}

// heartbeatWatch notices heartbeats that a leader sends late, on their way to the transport. It belongs to the replica's loop.
type heartbeatWatch struct {
	replica.Transport
	seen     *instruments
	interval time.Duration
	term     uint64               // of the leader
	last     map[uint64]time.Time // in this term, by receiver
}

func newHeartbeatWatch(to replica.Transport, seen *instruments, interval time.Duration) *heartbeatWatch {
	return &heartbeatWatch{Transport: to, seen: seen, interval: interval, last: map[uint64]time.Time{}}
}

// Send implements replica.Transport.
func (w *heartbeatWatch) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		if m.GetType() == raftpb.MsgHeartbeat {
			w.note(m)
		}
	}
	w.Transport.Send(messages)
}

func (w *heartbeatWatch) note(m *raftpb.Message) {
	if m.GetTerm() != w.term {
		w.term = m.GetTerm()
		clear(w.last)
	}
	now := w.seen.now()
	if last, before := w.last[m.GetTo()]; before && now.Sub(last) > 2*w.interval {
		w.seen.lateHeartbeats.Add(1)
	}
	w.last[m.GetTo()] = now
}

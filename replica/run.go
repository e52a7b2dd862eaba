package replica

import (
	"context"
	"runtime"
	"time"

	"go.etcd.io/raft/v3"
	"golang.org/x/sync/errgroup"

	"holdfast/util/queue"
)

// Run does the replica's work until ctx ends, which is no error, or the log or the machine fails. ticks brings one value
// per heartbeat interval; with nil, Tick does. When Run returns, everyone who waits has been answered with ErrStopped.
func (r *Replica) Run(ctx context.Context, ticks <-chan time.Time) error {
	defer r.stop()
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return r.advance(running, ticks) })                       // owns raft and the window
	g.Go(func() error { return each(running, r.writer.wake, r.WriteLog) })        // owns the end of the log
	g.Go(func() error { return each(running, r.applier.wake, r.ApplyCommitted) }) // owns the machine and the applied index
	g.Go(func() error { return each(running, r.reader.wake, r.ReadLog) })
	return g.Wait()
}

// advance calls Advance whenever something has arrived.
func (r *Replica) advance(ctx context.Context, ticks <-chan time.Time) error {
	for {
		r.Advance()
		select {
		case <-r.wake:
			r.gather()
		case <-ticks:
			r.ticks.Add(1)
		case <-ctx.Done():
			return nil
		}
	}
}

// gather lets the goroutines that can run go first, as long as that brings more proposals: what they are about to propose shares a turn of the
// loop, a write and a sync of the log, and the message to other members. A loop that takes what there is whenever it is woken takes them nearly one by
// one where few wait for it: a follower's messages carried 1.1 entries, not 8, and an update of 200 callers cost an eighth more (bench/FINDINGS.md).
// While a sync is under way proposals wait for it anyway. Where a processor is idle it takes over at once.
func (r *Replica) gather() {
	if r.loop.unsynced > 0 && r.loop.soft.RaftState != raft.StateFollower {
		return
	}
	before := 0
	for range gatherings {
		n, _ := r.proposals.waiting()
		if n <= before {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// gatherings bounds how often the loop makes way before it goes on: raft's clock and other members wait for it, too.
const gatherings = 4

// each calls work whenever there is some.
func each(ctx context.Context, wake <-chan struct{}, work func() error) error {
	for {
		select {
		case <-wake:
			if err := work(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// poke makes Advance run once more.
func (r *Replica) poke() { queue.Wake(r.wake) }

// stop answers everyone who waits. Nothing runs any more.
func (r *Replica) stop() {
	r.end.reach()
	r.reads.stop()
	r.applied.stop()
}

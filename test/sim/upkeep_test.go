package sim

import (
	"context"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/raftlog"
)

const upkeepInterval = 100 * time.Millisecond

// upkeep makes the store durable, releases the log and removes what was compacted.
func (l *life) upkeep() {
	l.w.every(upkeepInterval, l.when(func() {
		if l.store.FlushDue(time.Unix(0, 0).Add(l.clock())) || l.w.chance(2) {
			l.w.counts["flushes"]++
			if err := l.store.Flush(); err != nil {
				return
			}
			if l.flushes++; l.flushes%l.w.tuning.compactAfter == 0 && !l.compactTables() {
				return
			}
		}
		if _, err := l.keys.CompactStep(l.w.tuning.compactionRows); err != nil {
			l.stop(err)
			return
		}
		if err := l.release(); err != nil && !l.ended {
			l.stop(err)
		}
	}))
}

// compactTables merges all tables of the store: Pebble would by itself, but when is not to be its choice.
func (l *life) compactTables() bool {
	l.w.counts["compactions of tables"]++
	err := l.store.Compact(context.Background())
	if err != nil && !l.ended && l.fullUntil <= l.w.now {
		l.stop(err)
	}
	return err == nil && !l.ended
}

// release gives the log free below the durable applied index. First the log records where its reader may begin.
func (l *life) release() error {
	durable, err := l.store.Durable()
	if err != nil || l.ended {
		return err
	}
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(durable.ConfState, conf); err != nil {
		return err
	}
	switch {
	case l.releasing != 0 && l.recorded >= l.releasing:
		l.releasing = 0
		// What was asked for counts, not what is recorded: that may be a state that is on its way into force.
		keep := l.releaseAt.Index - min(l.releaseAt.Index, l.w.tuning.catchUpEntries)
		removed, err := l.log.Release(l.releaseAt, keep+1)
		if err != nil {
			return err
		}
		l.w.counts["segments released"] += removed
		l.replica.Compact(keep)
		l.released = kv.Index(l.releaseAt.Index)
		l.w.note("%s released the log below %d, %d segments", l.member, keep+1, removed)
	case l.releasing == 0 && durable.Index >= l.released+kv.Index(l.w.tuning.snapshotEvery):
		l.releasing, l.recorded = durable.Index, 0
		l.releaseAt = raftlog.SnapshotRecord{Index: uint64(durable.Index), Term: uint64(durable.Term), ConfState: conf}
		l.checkpoint(durable.Index, durable.Term, conf)
	default:
		return nil
	}
	l.poke(&l.loop)
	return nil
}

// checkpoint asks for the record without waiting for it: logOf sees when it is there.
func (l *life) checkpoint(index kv.Index, term kv.Term, conf *raftpb.ConfState) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := l.replica.Checkpoint(ctx, &raftpb.SnapshotMetadata{Index: new(uint64(index)), Term: new(uint64(term)), ConfState: conf})
	if err != nil && ctx.Err() == nil {
		l.w.fail("%s: checkpoint at %d: %v", l.member, index, err)
	}
}

package sim

import (
	"context"
	"slices"

	"holdfast/kv"
	"holdfast/raftlog"
	"holdfast/watch"
)

// plant is a mistake that is made on purpose, to see that the judge finds it. All are made here, in what stands between the
// product's parts; the product carries none.
type plant string

const (
	plantNothing     plant = ""
	plantNoSync      plant = "ack-before-durable"
	plantStaleRead   plant = "stale-read"
	plantLostEvent   plant = "lost-event"
	plantDoubleApply plant = "double-apply"
	plantTruncation  plant = "truncated-entry"
	plantProgress    plant = "progress-ahead"
)

var plants = []plant{plantNoSync, plantStaleRead, plantLostEvent, plantDoubleApply, plantTruncation, plantProgress}

// plantLostEvent leaves one event out, rarely.
func (l *life) plantLostEvent(changes []kv.Change) []kv.Change {
	if l.w.plant != plantLostEvent || !l.w.chance(1) {
		return changes
	}
	changes = slices.Clone(changes)
	c := &changes[l.w.rnd.IntN(len(changes))]
	if len(c.Events) > 0 {
		c.Events = slices.Delete(slices.Clone(c.Events), 0, 1)
	}
	return changes
}

// plantDoubleApply proposes a command twice, rarely, as a member would that tries again without asking.
func (l *life) plantDoubleApply(ctx context.Context, payload []byte) {
	if l.w.plant != plantDoubleApply || l.w.rnd.IntN(300) > 0 {
		return
	}
	if err := l.replica.Propose(ctx, slices.Clone(payload)); err != nil {
		l.w.note("%s could not propose twice: %v", l.member, err)
	}
}

// plantTruncation takes the last entry of a log for torn, although it is whole.
func (l *life) plantTruncation(rec *raftlog.Recovered) {
	n := len(rec.Entries)
	if l.w.plant != plantTruncation || n == 0 || rec.Last-1 < uint64(l.store.Applied().Index) {
		return
	}
	rec.Entries, rec.Last = rec.Entries[:n-1], rec.Last-1
	rec.State.Commit = min(rec.State.Commit, rec.Last)
}

// plantProgress tells the newest revision as progress, whatever the stream still holds back.
func (wt *watcher) plantProgress() {
	if wt.w.plant == plantProgress && wt.next > 0 {
		wt.take(&watch.Response{Revision: wt.life.hub.Head()})
	}
}

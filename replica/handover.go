package replica

import (
	"cmp"
	"slices"

	"go.etcd.io/raft/v3"
)

// handover gives the leadership away to one voter after the other until one takes it.
type handover struct {
	age   int      // ticks since the present voter was asked
	asked []uint64 // in this round
}

// leaveIfRemoved makes a leader that was removed from the voters hand over. raft keeps it leading, so that the others
// learn that the removal is committed, but it takes no proposals. It must not just step down: if its log is longer
// than that of the voters left, and they do not know of the removal yet, they could not elect anyone without it.
func (l *loop) leaveIfRemoved(electionTicks int) {
	if l.soft.RaftState != raft.StateLeader || l.voter(l.id) {
		l.handover = handover{}
		return
	}
	l.handover.tick(l, electionTicks)
}

// tick asks the next voter when the last one had an election timeout's time; raft gives up on it then, too.
func (h *handover) tick(l *loop, electionTicks int) {
	if h.age++; len(h.asked) > 0 && h.age < electionTicks {
		return
	}
	h.age = 0
	to, ok := h.next(l)
	if !ok {
		h.asked = h.asked[:0] // all were asked: from the beginning, at the next tick
		return
	}
	h.asked = append(h.asked, to)
	l.node.TransferLeader(to)
}

// next returns the voter that was not asked yet and has the most of the log; what it lacks it would have to get first.
func (h *handover) next(l *loop) (uint64, bool) {
	var left []uint64
	for _, id := range l.config.GetVoters() {
		if id != l.id && !slices.Contains(h.asked, id) {
			left = append(left, id)
		}
	}
	if len(left) == 0 {
		return 0, false
	}
	return slices.MaxFunc(left, func(a, b uint64) int { return cmp.Compare(l.progress[a].Match, l.progress[b].Match) }), true
}

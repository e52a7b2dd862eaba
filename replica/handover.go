package replica

import (
	"cmp"
	"slices"

	"go.etcd.io/raft/v3"
)

// handover gives the leadership away, to one voter after the other until one takes it.
type handover struct {
	age   int      // ticks since it began
	wait  int      // ticks until the next voter is asked
	asked []uint64 // in this round
	mute  bool     // nobody took it: see tick
}

// tick begins a handover, goes on with one, or ends it when there is no reason any more.
//
// A voter gets an election timeout's time; raft gives up on it then, too. When two election timeouts have passed, a leader
// that cannot work goes mute: it sends nothing and hears nothing, so that raft finds no quorum behind it and stops
// leading, and the others elect someone. Until then it leads on, for it may be the only one who can.
func (h *handover) tick(l *loop, electionTicks int) {
	stalled := l.stalled(electionTicks)
	removed := !l.voter(l.id)
	if l.soft.RaftState != raft.StateLeader || l.sole() || !stalled && !removed {
		*h = handover{}
		return
	}
	h.mute = stalled && h.age >= 2*electionTicks
	h.age++
	if h.wait--; h.wait >= 0 {
		return
	}
	if to, ok := h.next(l); ok {
		h.asked = append(h.asked, to)
		h.wait = electionTicks
		l.node.TransferLeader(to)
	} else {
		h.asked = h.asked[:0] // from the beginning, at the next tick
	}
}

// next returns the voter not yet asked that was heard of lately and has the most of the log; what it lacks it would have to
// get first.
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
	return slices.MaxFunc(left, func(a, b uint64) int {
		p, q := l.progress[a], l.progress[b]
		if p.RecentActive != q.RecentActive {
			if p.RecentActive {
				return 1
			}
			return -1
		}
		return cmp.Compare(p.Match, q.Match)
	}), true
}

// stalls counts for how long the log writer or the applier has had work and not moved.
type stalls struct {
	writer, applier int    // ticks
	saves           uint64 // counts saves that came back
	savesBefore     uint64 // at the last tick
	appliedBefore   uint64 // the applied index then
}

// tick compares with the tick before. applied is asked from the applier itself: it moves within an order of raft's, too.
func (s *stalls) tick(l *loop, applied uint64) {
	if s.writer++; l.writing == 0 || s.saves != s.savesBefore {
		s.writer = 0
	}
	if s.applier++; l.applying == 0 || applied != s.appliedBefore {
		s.applier = 0
	}
	s.savesBefore, s.appliedBefore = s.saves, applied
}

// stalled says that the disk or the machine has not moved for an election timeout although there was work.
func (l *loop) stalled(electionTicks int) bool {
	return max(l.stalls.writer, l.stalls.applier) >= electionTicks
}

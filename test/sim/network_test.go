package sim

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
)

// network carries raft's messages. Without faults it is in order between two members and loses nothing, as TCP does.
type network struct {
	w       *world
	size    int
	cut     [][]bool          // from, to: nothing gets through
	arrives [][]time.Duration // when the last message of a direction arrives

	lossPercent, doublePercent int
	shuffle                    bool          // messages overtake each other
	delay                      time.Duration // up to this, on top
}

func newNetwork(w *world, size int) *network {
	n := &network{w: w, size: size}
	for range size {
		n.cut = append(n.cut, make([]bool, size))
		n.arrives = append(n.arrives, make([]time.Duration, size))
	}
	return n
}

func (n *network) heal() {
	n.lossPercent, n.doublePercent, n.shuffle, n.delay = 0, 0, false, 0
	n.mend()
}

func (n *network) mend() {
	for _, row := range n.cut {
		clear(row)
	}
}

// send takes one message on its way.
func (n *network) send(from *member, m *raftpb.Message) {
	to := n.w.members[memberIndex(m.GetTo())]
	if n.cut[from.index][to.index] || n.w.chance(n.lossPercent) {
		n.lose(from, m)
		return
	}
	m = proto.Clone(m).(*raftpb.Message)
	n.carry(from, to, m)
	// A forwarded proposal comes twice in no real network: a stream of bytes does not double, and raft would append it twice.
	if m.GetType() != raftpb.MsgProp && m.GetType() != raftpb.MsgSnap && n.w.chance(n.doublePercent) {
		n.w.counts["doubled messages"]++
		n.carry(from, to, proto.Clone(m).(*raftpb.Message))
	}
}

func (n *network) carry(from, to *member, m *raftpb.Message) {
	at := n.w.now + n.w.between(300*time.Microsecond, 2*time.Millisecond)
	if n.delay > 0 {
		at += n.w.between(0, n.delay)
	}
	if n.shuffle {
		at += n.w.between(0, 30*time.Millisecond)
	} else {
		at = max(at, n.arrives[from.index][to.index])
		n.arrives[from.index][to.index] = at
	}
	n.w.after(at-n.w.now, func() { n.arrive(from, to, m) })
}

func (n *network) arrive(from, to *member, m *raftpb.Message) {
	if to.life == nil || n.cut[from.index][to.index] {
		n.lose(from, m)
		return
	}
	if to.pausedUntil > n.w.now { // lies in the socket
		n.w.after(to.pausedUntil-n.w.now, func() { n.arrive(from, to, m) })
		return
	}
	if to.life.cluster.Removed(kv.MemberID(from.id)) { // the transport refuses it, and tells it why
		n.w.counts["messages of removed members refused"]++
		n.lose(from, m)
		if from.life != nil {
			from.life.leave()
		}
		return
	}
	n.w.counts["messages"]++
	n.w.note("%s -> %s %v term %d index %d commit %d entries %d", from, to, m.GetType(), m.GetTerm(), m.GetIndex(), m.GetCommit(), len(m.GetEntries()))
	to.life.receive(from, m)
}

// lose drops a message. The sender may notice: a connection broke.
func (n *network) lose(from *member, m *raftpb.Message) {
	n.w.counts["lost messages"]++
	if from.life == nil {
		return
	}
	if m.GetType() == raftpb.MsgSnap {
		from.life.replica.ReportSnapshot(m.GetTo(), false)
	} else if n.w.chance(50) {
		from.life.replica.ReportUnreachable(m.GetTo())
	}
}

package replica

import (
	"context"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// changesMax bounds the configuration changes that wait for their turn. They are made by hand, a few in a cluster's life;
// what comes beyond is lost, as on the way to another member.
const changesMax = 64

// changes are configuration changes that wait. raft lets a change come to nothing, without a word, while it has not heard that
// the one before it is applied, or that an entry of the leader's own term is. So a leader gives raft one at a time, its own
// and those that others send; whoever proposed one would wait in vain otherwise.
type changes struct {
	waiting []proposal
	// term is that in which this replica, as leader, proposed a change that is not settled yet; 0: none.
	term uint64
}

func (c *changes) hold(p proposal) {
	if len(c.waiting) < changesMax {
		c.waiting = append(c.waiting, p)
	}
}

// takeFrom holds the changes of a proposal that another member sent, and tells whether nothing else is in it.
func (c *changes) takeFrom(m *raftpb.Message) (empty bool) {
	m.Entries = slices.DeleteFunc(m.Entries, func(e *raftpb.Entry) bool {
		if e.GetType() == raftpb.EntryNormal {
			return false
		}
		c.hold(proposal{ctx: context.Background(), data: e.GetData(), kind: e.Type})
		return true
	})
	return len(m.Entries) == 0
}

func isChange(p proposal) bool { return *p.kind != raftpb.EntryNormal }

// changeMayGo tells whether raft, or whoever leads, would let a change take effect.
func (l *loop) changeMayGo() bool {
	return l.soft.RaftState != raft.StateLeader || l.leadership().Settled && l.changes.term != l.term
}

// orderChanges leaves in the batch the one change whose turn it is, and holds the others. A follower sends all it has.
func (l *loop) orderChanges() {
	mayGo := l.changeMayGo()
	if l.soft.RaftState == raft.StateLeader {
		l.batch = slices.DeleteFunc(l.batch, func(p proposal) bool {
			if !isChange(p) {
				return false
			}
			if mayGo && len(l.changes.waiting) == 0 {
				mayGo = false
				return false
			}
			l.changes.hold(p)
			return true
		})
	}
	for mayGo && len(l.changes.waiting) > 0 {
		first := l.changes.waiting[0]
		l.changes.waiting = slices.Delete(l.changes.waiting, 0, 1)
		if first.ctx.Err() == nil {
			l.batch = append(l.batch, first)
			mayGo = l.soft.RaftState != raft.StateLeader
		}
	}
}

// noteChange takes note of a change that raft has taken with the batch.
func (l *loop) noteChange() {
	if l.soft.RaftState == raft.StateLeader && slices.ContainsFunc(l.batch, isChange) {
		l.changes.term = l.term
	}
}

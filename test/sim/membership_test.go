package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/replica"
)

const (
	membersMax  = 24 // that a run may ever have; ids are never used again
	votersMax   = 5
	learnersMax = 1
	// removalGrace is how long a member stays after it has applied its own removal.
	removalGrace = time.Second
)

// serves tells whether clients get answers from a member: learners, and those who know of no cluster yet, give none.
func (m *member) serves() bool {
	if m.life == nil {
		return false
	}
	self, known := m.life.cluster.Member(kv.MemberID(m.id))
	return known && !self.IsLearner || m.life.cluster.Removed(kv.MemberID(m.id))
}

// leave ends a member that has heard that it was removed, a while later.
func (l *life) leave() {
	l.w.after(removalGrace, func() {
		if !l.ended {
			l.retire()
		}
	})
}

// retire ends a member for good.
func (m *member) retire() {
	if m.gone {
		return
	}
	m.gone = true
	m.w.note("%s is gone", m)
	if l := m.life; l != nil {
		l.disk.setFull(false)
		l.end()
		m.life, m.left = nil, nil
	}
}

// reconfigure makes some changes of the membership, one after the other.
func (w *world) reconfigure() {
	left := 4 + w.rnd.IntN(6)
	w.every(w.between(500*time.Millisecond, 3*time.Second), func() bool {
		if w.calm {
			return false
		}
		w.changeMembership()
		left--
		return left > 0
	})
}

// changeMembership asks some member for a change that fits.
func (w *world) changeMembership() {
	via := w.some()
	if !via.serves() || via.pausedUntil > w.now || !via.life.settledLeader() {
		return
	}
	r := w.judge.roster
	voters, learners := r.voters(), r.learners()
	switch p := w.rnd.IntN(100); {
	case p < 5: // something that may make no sense
		w.ask(via, raftpb.ConfChangeType(w.rnd.IntN(2)), w.rnd.Uint64N(uint64(len(w.members)))+1, w.chance(50))
	case len(learners) > 0 && p < 60:
		if w.ready(learners[0]) {
			w.ask(via, raftpb.ConfChangeAddNode, learners[0], true)
		}
	case len(learners) > 0 && p < 70:
		w.ask(via, raftpb.ConfChangeRemoveNode, learners[0], false)
	case len(voters) == 2 && p < 12 || len(voters) > 2 && p < 40 || len(voters) >= votersMax:
		w.ask(via, raftpb.ConfChangeRemoveNode, w.leaving(voters), false)
	case len(w.members) == membersMax:
	case len(learners) == 0 && p < 75:
		w.ask(via, raftpb.ConfChangeAddLearnerNode, w.newcomer(), false)
	default:
		w.ask(via, raftpb.ConfChangeAddNode, w.newcomer(), false)
	}
}

// leaving is the voter to be removed: as often as not the leader.
func (w *world) leaving(voters []uint64) uint64 {
	for _, id := range voters {
		if l := w.members[memberIndex(id)].life; l != nil && l.led != 0 && w.chance(50) {
			return id
		}
	}
	return voters[w.rnd.IntN(len(voters))]
}

// newcomer prepares a member that is not there yet.
func (w *world) newcomer() uint64 {
	m := newMember(w, len(w.members), nil)
	w.members = append(w.members, m)
	return m.id
}

// ready is the leader's question before it promotes a learner.
func (w *world) ready(learner uint64) bool {
	l := w.members[memberIndex(learner)].life
	return l != nil && l.appliedIndex*10 >= uint64(len(w.judge.log))*9
}

// settledLeader tells whether this member knows a leader that would let a change take effect, as far as it can tell.
func (l *life) settledLeader() bool {
	now := l.replica.Status().Leadership
	return now.Leader != 0 && (now.Leader != l.id || now.Settled)
}

// ask proposes a change of the membership at a member.
func (w *world) ask(via *member, kind raftpb.ConfChangeType, id uint64, promote bool) {
	change := &raftpb.ConfChange{Id: new(uint64(w.moment())<<1 | 1), Type: kind.Enum(), NodeId: new(id)}
	if kind != raftpb.ConfChangeRemoveNode {
		text, err := json.Marshal(changeContext{describe(id), promote})
		if err != nil {
			panic(err)
		}
		change.Context = text
	}
	w.note("%s is asked for %v of m%d, promotion %v", via, kind, id, promote)
	ctx, cancel := context.WithCancel(context.Background())
	w.after(requestTimeout, cancel)
	switch err := via.life.replica.ProposeConfChange(ctx, change); {
	case errors.Is(err, replica.ErrTooManyRequests):
	case err != nil:
		w.fail("%s cannot propose a change: %v", via, err)
	}
	via.life.poke(&via.life.loop)
}

// settled hears at a member that raft would take the next change.
func (l *life) settled(c *raftpb.ConfChange, refused error) {
	l.w.note("%s has settled the change of m%d: %v", l.member, c.GetNodeId(), refused)
}

// roster is who belongs to the cluster: the plain model of membership. A member that was removed stays in it.
type roster map[uint64]standing

type standing string

const (
	votes   standing = "votes"
	learns  standing = "learns"
	removed standing = "removed"
)

func (r roster) with(s standing) (ids []uint64) {
	for _, id := range slices.Sorted(maps.Keys(r)) {
		if r[id] == s {
			ids = append(ids, id)
		}
	}
	return ids
}

func (r roster) voters() []uint64   { return r.with(votes) }
func (r roster) learners() []uint64 { return r.with(learns) }
func (r roster) all() []uint64      { return append(r.voters(), r.learners()...) }

// String implements fmt.Stringer.
func (r roster) String() string {
	return fmt.Sprintf("voters %v, learners %v, removed %v", r.voters(), r.learners(), r.with(removed))
}

func rosterOf(c *membership.Cluster) string {
	r := roster{}
	for _, m := range c.Members() {
		r[uint64(m.ID)] = votes
		if m.IsLearner {
			r[uint64(m.ID)] = learns
		}
	}
	for _, id := range c.RemovedMembers() {
		r[uint64(id)] = removed
	}
	return r.String()
}

// change carries a change out, or refuses it.
func (r roster) change(c *raftpb.ConfChange, promotion bool) (done bool) {
	id := c.GetNodeId()
	is := r[id]
	switch kind := c.GetType(); {
	case is == removed,
		kind == raftpb.ConfChangeRemoveNode && is == "",
		kind == raftpb.ConfChangeRemoveNode && is == votes && len(r.voters()) == 1,
		promotion && is != learns,
		kind == raftpb.ConfChangeAddLearnerNode && len(r.learners()) >= learnersMax,
		kind != raftpb.ConfChangeRemoveNode && !promotion && is != "":
		return false
	case kind == raftpb.ConfChangeRemoveNode:
		r[id] = removed
	case kind == raftpb.ConfChangeAddLearnerNode:
		r[id] = learns
	default:
		r[id] = votes
	}
	return true
}

// verdict is what became of a configuration change.
type verdict struct {
	done bool
	conf string // raft's configuration after it
}

// changed hears of a configuration change before a member carries it out, or not.
func (j *judge) changed(m *member, index uint64, c *raftpb.ConfChange, state *raftpb.ConfState, refused error) {
	want, known := j.rosters[index]
	if !known {
		change, err := readChange(c)
		if err != nil {
			j.w.fail("entry %d: %v", index, err)
		}
		want = verdict{done: j.roster.change(c, change.Kind == membership.Promote)}
		want.conf = fmt.Sprint(j.roster.voters(), j.roster.learners())
		j.rosters[index] = want
		j.w.note("entry %d, %v of m%d, done %v: %v", index, c.GetType(), c.GetNodeId(), want.done, j.roster)
		if want.done {
			j.w.follow(change, int(index) <= len(j.w.founders))
		}
	}
	voters, learners := slices.Sorted(slices.Values(state.GetVoters())), slices.Sorted(slices.Values(state.GetLearners()))
	got := verdict{refused == nil, fmt.Sprint(voters, learners)}
	if founding := int(index) <= len(j.w.founders); founding {
		got.conf = want.conf // raft begins with all of them
	}
	if got != want {
		j.w.fail("%s carries out entry %d, %v of m%d: %+v (%v), the model has %+v", m, index, c.GetType(), c.GetNodeId(), got, refused, want)
	}
}

// follow does what an operator does about a change that is in force: starts the newcomer, takes away the one that was removed.
func (w *world) follow(c membership.Change, founding bool) {
	m := w.members[memberIndex(uint64(c.Member.ID))]
	switch {
	case founding:
		return
	case c.Kind == membership.Remove:
		if m.life != nil && m.life.led != 0 {
			w.counts[changes[leaderRemoved]]++
		}
		w.after(w.between(0, 6*time.Second), m.retire)
	case m.absent:
		m.absent = false
		w.after(w.between(0, 2*time.Second), m.start)
	}
	w.counts[changes[c.Kind]]++
}

// changes are the names under which changes of the membership are counted.
var changes = map[membership.ChangeKind]string{
	membership.AddVoter: "change: voter added", membership.AddLearner: "change: learner added", membership.Promote: "change: learner promoted",
	membership.Remove: "change: member removed", leaderRemoved: "change: leader removed",
}

// leaderRemoved stands for a kind of its own among changes.
const leaderRemoved membership.ChangeKind = -1

package sim

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
	"holdfast/replica"
)

// logOf lets the replica write to the raft log.
type logOf struct{ *life }

// Append implements replica.Log.
func (l logOf) Append(saves []replica.Save, sync bool) error {
	l.busy = true
	converted := make([]raftlog.Save, len(saves))
	for i, s := range saves {
		converted[i].Entries, converted[i].Sync = s.Entries, sync
		if s.HardState != nil {
			converted[i].State = raftlog.HardState{Term: s.HardState.GetTerm(), Vote: s.HardState.GetVote(), Commit: s.HardState.GetCommit()}
		}
		if s.Snapshot != nil {
			converted[i].Snapshot = &raftlog.SnapshotRecord{
				Index: s.Snapshot.GetIndex(), Term: s.Snapshot.GetTerm(), ConfState: s.Snapshot.GetConfState(),
			}
		}
	}
	if err := l.log.Append(converted...); err != nil {
		return err
	}
	for _, s := range saves {
		if s.Snapshot != nil {
			l.recorded = kv.Index(s.Snapshot.GetIndex())
		}
	}
	return nil
}

// Prepare implements replica.Preparer. Where there is no room for a segment, the present one goes on growing.
func (l logOf) Prepare() error {
	if err := l.log.Prepare(); err != nil && !vfs.IsNoSpaceError(err) {
		return err
	}
	return nil
}

// Entries implements replica.Log.
func (l logOf) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	l.busy = true
	l.w.counts["reads of old entries"]++
	entries, err := l.log.Entries(lo, hi, maxBytes)
	if errors.Is(err, raftlog.ErrReleased) {
		return nil, nil
	}
	return entries, err
}

// machineOf lets the replica drive the state machine. The judge hears of every entry before the results go out.
type machineOf struct{ *life }

// Apply implements replica.Machine.
func (m machineOf) Apply(entries []*raftpb.Entry) error {
	m.busy = true
	converted := make([]apply.Entry, len(entries))
	for i, e := range entries {
		converted[i] = entryOf(e)
	}
	for _, e := range converted {
		m.w.judge.applied(m.member, e)
	}
	results, err := m.machine.Apply(converted)
	if err != nil {
		return err
	}
	m.appliedIndex = entries[len(entries)-1].GetIndex()
	for i := range results {
		m.w.judge.result(m.member, &results[i], m.waiting[results[i].ID] != nil)
		m.answer(&results[i])
	}
	return nil
}

func entryOf(e *raftpb.Entry) apply.Entry {
	return apply.Entry{Index: kv.Index(e.GetIndex()), Term: kv.Term(e.GetTerm()), Payload: e.GetData()}
}

// CheckConfChange implements replica.Machine.
func (m machineOf) CheckConfChange(_ *raftpb.Entry, c *raftpb.ConfChange) error {
	change, err := readChange(c)
	if err != nil {
		return err
	}
	return m.cluster.Check(change)
}

// ApplyConfChange implements replica.Machine.
func (m machineOf) ApplyConfChange(e *raftpb.Entry, c *raftpb.ConfChange, state *raftpb.ConfState, refused error) error {
	m.busy = true
	confState, err := proto.Marshal(state)
	if err != nil {
		return err
	}
	var change *membership.Change
	if refused == nil {
		read, err := readChange(c)
		if err != nil {
			return err
		}
		change = &read
	}
	entry := entryOf(e)
	entry.Payload = nil
	m.w.judge.applied(m.member, entry)
	m.w.judge.changed(m.member, e.GetIndex(), c, state, refused)
	if err := m.machine.ApplyConfChange(entryOf(e), change, confState); err != nil {
		return err
	}
	m.appliedIndex = e.GetIndex()
	if m.cluster.Removed(kv.MemberID(m.id)) {
		m.leave()
	}
	return nil
}

// changeContext is what a configuration change says of a member.
type changeContext struct {
	membership.Member
	IsPromote bool `json:"isPromote"`
}

// readChange reads a configuration change out of the log.
func readChange(c *raftpb.ConfChange) (membership.Change, error) {
	change := membership.Change{Kind: membership.Remove, Member: membership.Member{ID: kv.MemberID(c.GetNodeId())}}
	if c.GetType() == raftpb.ConfChangeRemoveNode {
		return change, nil
	}
	var says changeContext
	if err := json.Unmarshal(c.GetContext(), &says); err != nil {
		return change, fmt.Errorf("read configuration change of member %x: %w", c.GetNodeId(), err)
	}
	change.Member = says.Member
	switch {
	case c.GetType() == raftpb.ConfChangeAddLearnerNode:
		change.Kind = membership.AddLearner
	case says.IsPromote:
		change.Kind = membership.Promote
	default:
		change.Kind = membership.AddVoter
	}
	return change, nil
}

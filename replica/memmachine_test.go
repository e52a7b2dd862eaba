package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// memMachine is the naive state machine: the list of everything applied, in order. Its store is not synced at every step:
// a crash may take it back to any state between the last one known durable and the present.
type memMachine struct {
	records   []record
	conferr   func(*raftpb.ConfChange) error // refusal of changes; nil for none
	fail      error                          // of the next Apply
	durable   uint64                         // a crash takes the machine back to here at most
	prepared  *raftpb.Snapshot
	states    *stateStore    // what snapshots contain
	votersMin int            // are not removed
	onApply   func(e record) // told of every entry
}

// record is one applied entry, and the configuration in force behind it.
type record struct {
	index, term uint64
	data        string
	conf        *raftpb.ConfState
	refused     bool
}

func (m *memMachine) applied() uint64 { return m.records[len(m.records)-1].index }

func (m *memMachine) conf() *raftpb.ConfState { return m.records[len(m.records)-1].conf }

func newMemMachine(voters ...uint64) *memMachine {
	return &memMachine{records: []record{{conf: &raftpb.ConfState{Voters: voters, AutoLeave: new(false)}}}}
}

func (m *memMachine) add(r record) {
	if r.index != m.applied()+1 {
		panic(fmt.Sprintf("machine: entry %d after %d", r.index, m.applied()))
	}
	m.records = append(m.records, r)
	if m.onApply != nil {
		m.onApply(r)
	}
}

func (m *memMachine) Apply(entries []*raftpb.Entry) error {
	if m.fail != nil {
		return m.fail
	}
	if len(entries) == 0 || len(entries) > runEntries {
		panic(fmt.Sprintf("machine: a run of %d entries", len(entries)))
	}
	for _, e := range entries {
		if e.GetType() != raftpb.EntryNormal {
			panic("machine: a configuration change among normal entries")
		}
		m.add(record{index: e.GetIndex(), term: e.GetTerm(), data: string(e.GetData()), conf: m.conf()})
	}
	return nil
}

func (m *memMachine) CheckConfChange(e *raftpb.Entry, c *raftpb.ConfChange) error {
	if e.GetIndex() != m.applied()+1 {
		panic(fmt.Sprintf("machine: change %d checked at %d", e.GetIndex(), m.applied()))
	}
	if m.conferr != nil {
		return m.conferr(c)
	}
	voter := slices.Contains(m.conf().GetVoters(), c.GetNodeId())
	learner := slices.Contains(m.conf().GetLearners(), c.GetNodeId())
	switch c.GetType() {
	case raftpb.ConfChangeRemoveNode:
		// One of two is not removed, because raft cannot always go on from there: if the one removed led, has the longer log
		// and fails before the other knows of the removal, the other needs its vote and does not get it. See TestRemovedLeader.
		if !learner && (!voter || len(m.conf().GetVoters()) <= m.votersMin) {
			return errors.New("cannot remove that member")
		}
	case raftpb.ConfChangeAddLearnerNode:
		if voter || learner {
			return errors.New("is a member")
		}
	default:
		if voter {
			return errors.New("is a voter")
		}
	}
	return nil
}

func (m *memMachine) ApplyConfChange(e *raftpb.Entry, c *raftpb.ConfChange, s *raftpb.ConfState, refused error) error {
	if refused != nil && !proto.Equal(s, m.conf()) {
		panic(fmt.Sprintf("machine: a refused change makes %v out of %v", s, m.conf()))
	}
	text := fmt.Sprintf("%v %d", c.GetType(), c.GetNodeId())
	m.add(record{index: e.GetIndex(), term: e.GetTerm(), data: text, conf: s, refused: refused != nil})
	return nil
}

// stateStore holds the contents of snapshots by number, in place of an encoding.
type stateStore struct{ states [][]record }

// snapshot returns the present state in the form of a received snapshot.
func (m *memMachine) snapshot() *raftpb.Snapshot {
	m.states.states = append(m.states.states, slices.Clone(m.records))
	last := m.records[len(m.records)-1]
	return &raftpb.Snapshot{
		Data:     binary.AppendUvarint(nil, uint64(len(m.states.states)-1)),
		Metadata: &raftpb.SnapshotMetadata{Index: new(last.index), Term: new(last.term), ConfState: last.conf},
	}
}

func (m *memMachine) Prepare(s *raftpb.Snapshot) error {
	m.prepared = s
	return nil
}

func (m *memMachine) Commit(s *raftpb.Snapshot) error {
	if m.prepared != s || s.GetMetadata().GetIndex() <= m.applied() {
		panic(fmt.Sprintf("machine: commit of snapshot %d at %d", s.GetMetadata().GetIndex(), m.applied()))
	}
	m.install()
	return nil
}

func (m *memMachine) install() {
	n, _ := binary.Uvarint(m.prepared.GetData())
	m.records, m.prepared = slices.Clone(m.states.states[n]), nil
	m.durable = m.applied()
}

// flush makes the present state durable.
func (m *memMachine) flush() { m.durable = m.applied() }

// crash takes the state back to index, and completes or forgets a snapshot according to what the log recorded.
func (m *memMachine) crash(index uint64, recorded *raftpb.SnapshotMetadata) {
	if m.prepared != nil && recorded.GetIndex() == m.prepared.GetMetadata().GetIndex() && recorded.GetIndex() > m.applied() {
		m.install()
		return
	}
	m.prepared = nil
	m.records = slices.Clone(m.records[:index+1])
	m.durable = index
}

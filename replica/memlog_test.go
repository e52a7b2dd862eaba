package replica

import (
	"fmt"
	"slices"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
)

// memLog is a Log in memory that knows what a crash would leave.
type memLog struct {
	before   Position
	entries  []*raftpb.Entry
	hard     *raftpb.HardState
	snapshot *raftpb.SnapshotMetadata // last one recorded
	unsynced []Save                   // written, but a crash takes them
	fail     error                    // of the next Append
	syncs    atomic.Int64
	hold     func() // called in Append before anything is durable; nil for none
}

func (m *memLog) Append(saves []Save, sync bool) error {
	if m.hold != nil {
		m.hold()
	}
	if m.fail != nil {
		return m.fail
	}
	m.unsynced = append(m.unsynced, saves...)
	if !sync {
		return nil
	}
	m.syncs.Add(1)
	for _, s := range m.unsynced {
		m.keep(s)
	}
	m.unsynced = nil
	return nil
}

func (m *memLog) last() uint64 { return m.before.Index + uint64(len(m.entries)) }

func (m *memLog) keep(s Save) {
	if s.Snapshot != nil {
		m.keepSnapshot(s.Snapshot)
	}
	if len(s.Entries) > 0 {
		at := s.Entries[0].GetIndex()
		if at <= m.before.Index || at > m.last()+1 {
			panic(fmt.Sprintf("memLog: append at %d to (%d, %d]", at, m.before.Index, m.last()))
		}
		m.entries = append(slices.Clone(m.entries[:at-m.before.Index-1]), s.Entries...)
	}
	if s.HardState != nil {
		if s.HardState.GetCommit() > m.last() || s.HardState.GetTerm() < m.hard.GetTerm() {
			panic(fmt.Sprintf("memLog: %v after %v with entries up to %d", s.HardState, m.hard, m.last()))
		}
		m.hard = s.HardState
	}
}

// keepSnapshot replaces the log by a snapshot that is not part of it, and only takes note of one that is.
func (m *memLog) keepSnapshot(s *raftpb.SnapshotMetadata) {
	m.snapshot = s
	if i := s.GetIndex(); i > m.last() || i > m.before.Index && m.entries[i-m.before.Index-1].GetTerm() != s.GetTerm() {
		m.before, m.entries = Position{i, s.GetTerm()}, nil
	}
}

func (m *memLog) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if lo <= m.before.Index {
		return nil, nil
	}
	return limit(m.entries[lo-m.before.Index-1:hi-m.before.Index-1], maxBytes), nil
}

// release drops entries up to index.
func (m *memLog) release(index uint64) {
	if index <= m.before.Index {
		return
	}
	n := index - m.before.Index
	m.before = Position{index, m.entries[n-1].GetTerm()}
	m.entries = slices.Clone(m.entries[n:])
}

func (m *memLog) crash() { m.unsynced = nil }

func (m *memLog) state(s *memMachine) State {
	return State{HardState: m.hard, Entries: m.entries, Before: m.before, Applied: s.applied(), ConfState: s.conf()}
}

package server

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/raftlog"
	"holdfast/replica"
)

// logOf lets the replica write to the raft log.
type logOf struct{ log *raftlog.Log }

// Append implements replica.Log. The log itself syncs whatever raft needs durable.
func (l logOf) Append(saves []replica.Save, sync bool) error {
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
	return l.log.Append(converted...)
}

// Prepare implements replica.Preparer: the next segment is made before it is needed. Where the disk has no room for it now,
// the present one can still be filled.
func (l logOf) Prepare() error {
	if err := l.log.Prepare(); err != nil && !vfs.IsNoSpaceError(err) {
		return err
	}
	return nil
}

// Entries implements replica.Log. What has been released is not there, which is no failure.
func (l logOf) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	entries, err := l.log.Entries(lo, hi, maxBytes)
	if errors.Is(err, raftlog.ErrReleased) {
		return nil, nil
	}
	return entries, err
}

// machineOf lets the replica drive the state machine, and hands each result to the request that waits for it.
type machineOf struct {
	*Server
	entries []apply.Entry // reused
	hidden  kv.Revision   // compacted revision when the last entries had been applied, at first that of the store as it was opened
	version string        // of the cluster, likewise
}

// Apply implements replica.Machine.
func (m *machineOf) Apply(entries []*raftpb.Entry) error {
	m.entries = m.entries[:0]
	for _, e := range entries {
		m.entries = append(m.entries, entryOf(e))
	}
	began := m.cfg.Now()
	results, err := m.machine.Apply(m.entries)
	clear(m.entries)
	if err != nil {
		return err
	}
	if took := m.cfg.Now().Sub(began); m.cfg.SlowApply > 0 && took > m.cfg.SlowApply {
		m.seen.slowApplies.Add(1)
		m.log.Warn("apply request took too long", "took", took, "expected-duration", m.cfg.SlowApply,
			"entries", len(entries), "last-index", entries[len(entries)-1].GetIndex())
	}
	if v := m.cluster.Version(); v != m.version {
		m.version = v
		if err := checkVersion(v); err != nil {
			return err
		}
		poke(m.versionChanged)
	}
	if c := m.keys.Compacted(); c != m.hidden {
		m.hidden = c
		poke(m.compacted)
	}
	if m.store.Unflushed() >= m.cfg.Memory.FlushBytes {
		poke(m.flushable)
	}
	for i := range results {
		m.answer(results[i])
	}
	return nil
}

func entryOf(e *raftpb.Entry) apply.Entry {
	return apply.Entry{Index: kv.Index(e.GetIndex()), Term: kv.Term(e.GetTerm()), Payload: e.GetData()}
}

// CheckConfChange implements replica.Machine.
func (m *machineOf) CheckConfChange(_ *raftpb.Entry, c *raftpb.ConfChange) error {
	change, err := readChange(c)
	if err != nil {
		return err
	}
	return m.cluster.Check(change)
}

// ApplyConfChange implements replica.Machine.
func (m *machineOf) ApplyConfChange(e *raftpb.Entry, c *raftpb.ConfChange, state *raftpb.ConfState, refused error) error {
	confState, err := proto.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the raft configuration: %w", err)
	}
	if refused != nil {
		m.log.Warn("refused a configuration change", "index", e.GetIndex(), "error", refused)
		return m.machine.ApplyConfChange(entryOf(e), nil, confState)
	}
	change, err := readChange(c)
	if err != nil {
		return err
	}
	if err := m.machine.ApplyConfChange(entryOf(e), &change, confState); err != nil {
		return err
	}
	m.followMembership(change)
	return nil
}

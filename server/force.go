package server

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
)

// force makes a cluster of this member alone, for when the majority is lost for good. All others are removed: by entries in
// the log like any other change, only that nobody is asked. The ids of member and cluster stay as they are, so the others
// hear, should they come back, that they were removed.
//
// What this member has in its log stays, as if it had been elected. etcd drops what it does not know to be committed; but a
// member hears of that last, and late on its disk: what it has acknowledged itself would be among what is dropped.
//
// The entries are of a new term, in which this member has voted for itself, and are written together with that vote. A
// crash in between leaves entries of a term that the log does not know of, and these it cuts when it is opened: the member is
// as before, or forced.
func (s *Server) force(rec raftlog.Recovered, applied kv.Index, confState []byte) (raftlog.Recovered, error) {
	s.identify(rec.Metadata)
	if err := rec.Check(uint64(applied)); err != nil {
		return rec, err
	}
	conf, err := confStateOf(rec, applied, confState)
	if err != nil {
		return rec, err
	}
	changes, err := forcedChanges(uint64(s.id), conf, rec.Entries)
	if err != nil {
		return rec, fmt.Errorf("--force-new-cluster: %w", err)
	}
	if len(changes) == 0 {
		s.log.Info("the member is the only one of its cluster already; nothing is forced", "member", s.id)
		return rec, nil
	}
	s.log.Warn("forcing restart member", "member", s.id, "cluster", fmt.Sprintf("%x", s.clusterID),
		"wal-commit-index", rec.State.Commit, "last-index", rec.Last, "membership-changes", len(changes))
	state := raftlog.HardState{Term: max(rec.State.Term, rec.TermAt(rec.Last)) + 1, Vote: uint64(s.id)}
	forced := make([]*raftpb.Entry, len(changes))
	for i, c := range changes {
		data, err := proto.Marshal(c)
		if err != nil {
			return rec, fmt.Errorf("describe the change of member %x: %w", c.GetNodeId(), err)
		}
		state.Commit = rec.Last + uint64(i) + 1
		forced[i] = &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(state.Term), Index: proto.Uint64(state.Commit), Data: data}
	}
	if err := s.raftLog.Append(raftlog.Save{Entries: forced, State: state}); err != nil {
		return rec, err
	}
	rec.Terms = append(rec.Terms, raftlog.TermRun{First: rec.Last + 1, Term: state.Term})
	rec.Entries, rec.State, rec.Last = append(rec.Entries, forced...), state, state.Commit
	return rec, nil
}

// forcedChanges leave of a configuration, and the entries that follow it, one voter alone.
func forcedChanges(self uint64, conf *raftpb.ConfState, entries []*raftpb.Entry) ([]*raftpb.ConfChange, error) {
	learns := map[uint64]bool{} // all members; true for learners
	for _, id := range conf.GetVoters() {
		learns[id] = false
	}
	for _, id := range conf.GetLearners() {
		learns[id] = true
	}
	for _, e := range entries {
		if e.GetType() != raftpb.EntryConfChange {
			continue
		}
		c := new(raftpb.ConfChange)
		if err := proto.Unmarshal(e.GetData(), c); err != nil {
			return nil, fmt.Errorf("read entry %d: %w", e.GetIndex(), err)
		}
		switch c.GetType() {
		case raftpb.ConfChangeAddNode:
			learns[c.GetNodeId()] = false
		case raftpb.ConfChangeAddLearnerNode:
			learns[c.GetNodeId()] = true
		case raftpb.ConfChangeRemoveNode:
			delete(learns, c.GetNodeId())
		}
	}
	learner, known := learns[self]
	if !known {
		return nil, fmt.Errorf("by what it holds, member %x does not belong to its cluster: it was removed, or has only begun to hear from it; force another member, or restore the cluster from a snapshot", self)
	}
	var changes []*raftpb.ConfChange
	if learner { // first: there must be a voter at all times
		context, err := json.Marshal(changeContext{Member: membership.Member{ID: kv.MemberID(self)}, IsPromote: true})
		if err != nil {
			return nil, fmt.Errorf("describe member %x: %w", self, err)
		}
		changes = append(changes, &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(self), Context: context})
	}
	delete(learns, self)
	others := make([]uint64, 0, len(learns))
	for id := range learns {
		others = append(others, id)
	}
	slices.Sort(others)
	for _, id := range others {
		changes = append(changes, &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(id)})
	}
	return changes, nil
}

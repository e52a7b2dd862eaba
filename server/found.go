package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
	"holdfast/replica"
)

// A new cluster begins, as etcd's does, with a log in which every founding member is added, at term 1, in the order of
// their ids. What follows from the log alone needs no other record of the founding.

// changeContext is what a configuration change in the log says of a member: etcd's JSON.
type changeContext struct {
	membership.Member
	IsPromote bool `json:"isPromote"`
}

// foundingEntries add the members of a new cluster. Each founder writes the same: what all begin with is committed, though
// they have not heard of each other yet.
func foundingEntries(founders []membership.Member) ([]*raftpb.Entry, error) {
	members := slices.SortedFunc(slices.Values(founders), func(a, b membership.Member) int { return cmp.Compare(a.ID, b.ID) })
	entries := make([]*raftpb.Entry, len(members))
	for i := range members {
		context, err := json.Marshal(&members[i])
		if err != nil {
			return nil, fmt.Errorf("describe member %v: %w", members[i].ID, err)
		}
		data, err := proto.Marshal(&raftpb.ConfChange{
			Type:    raftpb.ConfChangeAddNode.Enum(),
			NodeId:  proto.Uint64(uint64(members[i].ID)),
			Context: context,
		})
		if err != nil {
			return nil, fmt.Errorf("describe member %v: %w", members[i].ID, err)
		}
		entries[i] = &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(1), Index: proto.Uint64(uint64(i + 1)), Data: data,
		}
	}
	return entries, nil
}

// openLog opens the raft log after the entry that the store has applied, or founds the cluster if there is none.
func (s *Server) openLog() (replica.State, error) {
	cfg := raftlog.Config{
		FS: s.dir.fs, Dir: s.dir.wal, Log: s.log, SegmentBytes: s.cfg.SegmentBytes,
		UnsafeNoSync: s.cfg.UnsafeNoSync, Observer: s.seen, Now: s.cfg.Now,
	}
	found, err := raftlog.Exists(cfg.FS, cfg.Dir)
	if err != nil {
		return replica.State{}, err
	}
	applied := s.store.Applied()
	if !found {
		if applied.Index > 0 {
			return replica.State{}, fmt.Errorf("the store has applied entry %d but there is no raft log in %s: give its place with --wal-dir, or restore the member from a snapshot", applied.Index, cfg.Dir)
		}
		if err := s.refuseLogLeftBehind(cfg); err != nil {
			return replica.State{}, err
		}
		if s.cfg.ForceNewCluster {
			s.log.Warn("flag has no effect", "flag", "force-new-cluster", "reason", "there is no data to go on with")
		}
		if s.cfg.Joined != nil {
			return s.join(cfg)
		}
		return s.found(cfg)
	}
	var rec raftlog.Recovered
	if s.raftLog, rec, err = raftlog.OpenAfter(cfg, uint64(applied.Index)); err != nil {
		return replica.State{}, err
	}
	if rec.Last == 0 && applied.Index == 0 {
		return s.joinOn(rec), nil
	}
	if s.cfg.ForceNewCluster {
		if rec, err = s.force(rec, applied.Index, applied.ConfState); err != nil {
			return replica.State{}, err
		}
	}
	return s.resume(rec, applied.Index, applied.ConfState)
}

// refuseLogLeftBehind finds the raft log in its usual place when there is none in the one that was asked for. Everything that
// a young member has acknowledged may be in there and nowhere else.
func (s *Server) refuseLogLeftBehind(cfg raftlog.Config) error {
	usual := s.dir.path("wal")
	left, err := raftlog.Exists(cfg.FS, usual)
	if err != nil || !left {
		return err
	}
	return fmt.Errorf("the raft log of this member is in %s and there is none in %s: start without --wal-dir, or move the log there first", usual, cfg.Dir)
}

// found makes a log that begins with the founding entries. They are in it from the start: a crash leaves either nothing, or
// a member of the cluster that was asked for.
func (s *Server) found(cfg raftlog.Config) (replica.State, error) {
	founder, err := s.cfg.founder()
	if err != nil {
		return replica.State{}, err
	}
	meta := raftlog.Metadata{NodeID: uint64(founder.ID), ClusterID: s.cfg.clusterID()}
	entries, err := foundingEntries(s.cfg.Founders)
	if err != nil {
		return replica.State{}, err
	}
	conf, err := foundingConfState(entries)
	if err != nil {
		return replica.State{}, err
	}
	state := raftlog.HardState{Term: 1, Commit: uint64(len(entries))}
	if s.raftLog, err = raftlog.Create(cfg, meta, raftlog.Save{Entries: entries, State: state}); err != nil {
		return replica.State{}, err
	}
	s.identify(meta)
	s.log.Info("starting a new cluster", "member", s.id, "members", len(entries), "cluster", fmt.Sprintf("%x", s.clusterID))
	return replica.State{HardState: hardState(state), Entries: entries, ConfState: conf}, nil
}

// resume continues with what log and store were found to hold.
func (s *Server) resume(rec raftlog.Recovered, applied kv.Index, confState []byte) (replica.State, error) {
	s.identify(rec.Metadata)
	if err := rec.Check(uint64(applied)); err != nil {
		return replica.State{}, err
	}
	state := replica.State{HardState: hardState(rec.State), Entries: rec.Entries, Applied: uint64(applied)}
	state.Before = replica.Position{Index: rec.After, Term: rec.TermAt(rec.After)}
	for _, run := range rec.Terms {
		if run.First <= rec.After {
			state.Older = append(state.Older, replica.TermRun{From: run.First, Term: run.Term})
		}
	}
	s.replayed = kv.Index(rec.Last)
	if n := len(rec.Snapshots); n > 0 {
		s.released = kv.Index(rec.Snapshots[n-1].Index)
	}
	var err error
	if state.ConfState, err = confStateOf(rec, applied, confState); err != nil {
		return replica.State{}, err
	}
	s.log.Info("restarting a member", "member", s.id, "cluster", fmt.Sprintf("%x", s.clusterID),
		"applied", applied, "committed", rec.State.Commit, "last", rec.Last)
	return state, nil
}

// confStateOf is the configuration in force at the applied index, stored with it but before anything is applied.
func confStateOf(rec raftlog.Recovered, applied kv.Index, stored []byte) (conf *raftpb.ConfState, err error) {
	if applied == 0 {
		conf, err = foundingConfState(rec.Entries)
	} else {
		conf = new(raftpb.ConfState)
		err = proto.Unmarshal(stored, conf)
	}
	if err != nil {
		return nil, fmt.Errorf("read the raft configuration: %w", err)
	}
	return conf, nil
}

func (s *Server) identify(meta raftlog.Metadata) {
	s.id, s.clusterID = kv.MemberID(meta.NodeID), meta.ClusterID
}

func hardState(s raftlog.HardState) *raftpb.HardState {
	return &raftpb.HardState{Term: proto.Uint64(s.Term), Vote: proto.Uint64(s.Vote), Commit: proto.Uint64(s.Commit)}
}

// foundingConfState is the configuration that the founding entries make. raft starts with it, so that the first entries
// can be committed at all.
func foundingConfState(entries []*raftpb.Entry) (*raftpb.ConfState, error) {
	conf := new(raftpb.ConfState)
	for _, e := range entries {
		if e.GetType() != raftpb.EntryConfChange || e.GetTerm() != 1 {
			break
		}
		change := new(raftpb.ConfChange)
		if err := proto.Unmarshal(e.GetData(), change); err != nil {
			return nil, fmt.Errorf("founding entry %d: %w", e.GetIndex(), err)
		}
		conf.Voters = append(conf.Voters, change.GetNodeId())
	}
	if len(conf.Voters) == 0 {
		return nil, errors.New("the raft log does not begin with the founding of a cluster")
	}
	return conf, nil
}

// readChange reads a configuration change out of the log.
func readChange(c *raftpb.ConfChange) (membership.Change, error) {
	change := membership.Change{Member: membership.Member{ID: kv.MemberID(c.GetNodeId())}}
	if c.GetType() == raftpb.ConfChangeRemoveNode {
		change.Kind = membership.Remove
		return change, nil
	}
	var context changeContext
	if err := json.Unmarshal(c.GetContext(), &context); err != nil {
		return change, fmt.Errorf("read configuration change of member %v: %w", change.Member.ID, err)
	}
	if context.ID != change.Member.ID {
		panic(fmt.Sprintf("server: configuration change of member %v describes member %v", change.Member.ID, context.ID))
	}
	change.Member = context.Member
	switch {
	case c.GetType() == raftpb.ConfChangeUpdateNode:
		change.Kind = membership.Update
	case c.GetType() == raftpb.ConfChangeAddLearnerNode:
		change.Kind = membership.AddLearner
	case context.IsPromote:
		change.Kind = membership.Promote
	default:
		change.Kind = membership.AddVoter
	}
	return change, nil
}

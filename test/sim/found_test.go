package sim

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
	"holdfast/replica"
)

// foundersOf are the members of a new cluster; the member at place i has id i+1, so that logs are easy to read.
func foundersOf(size int) []membership.Member {
	var all []membership.Member
	for i := range size {
		all = append(all, describe(uint64(i+1)))
	}
	return all
}

func describe(id uint64) membership.Member {
	name := fmt.Sprintf("m%d", id)
	return membership.Member{ID: kv.MemberID(id), Name: name, PeerURLs: []string{"http://" + name + ":2380"}}
}

func memberIndex(id uint64) int { return int(id) - 1 }

// foundingEntries add the members of a new cluster, at term 1: equal on all of them.
func foundingEntries(founders []membership.Member) ([]*raftpb.Entry, *raftpb.ConfState) {
	var entries []*raftpb.Entry
	conf := &raftpb.ConfState{}
	for i := range founders {
		context, err := json.Marshal(&founders[i])
		if err != nil {
			panic(err)
		}
		data, err := proto.Marshal(&raftpb.ConfChange{
			Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(founders[i].ID)), Context: context,
		})
		if err != nil {
			panic(err)
		}
		entries = append(entries, &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: new(uint64(1)), Index: new(uint64(i + 1)), Data: data,
		})
		conf.Voters = append(conf.Voters, uint64(founders[i].ID))
	}
	return entries, conf
}

// foundingConfState is the configuration that the founding entries at the beginning of a log make.
func foundingConfState(entries []*raftpb.Entry) *raftpb.ConfState {
	conf := new(raftpb.ConfState)
	for _, e := range entries {
		change := new(raftpb.ConfChange)
		if e.GetType() != raftpb.EntryConfChange || e.GetTerm() != 1 || proto.Unmarshal(e.GetData(), change) != nil {
			break
		}
		conf.Voters = append(conf.Voters, change.GetNodeId())
	}
	return conf
}

// openLog opens the raft log, or founds the cluster.
func (l *life) openLog() (replica.State, error) {
	cfg := raftlog.Config{
		FS: l.disk.walFS, Dir: walDir, Log: l.w.logger, SegmentBytes: segmentBytes, UnsafeNoSync: l.w.slips.unsynced,
	}
	found, err := raftlog.Exists(cfg.FS, cfg.Dir)
	if err != nil {
		return replica.State{}, err
	}
	if !found && l.founders == nil {
		l.log, err = raftlog.Create(cfg, raftlog.Metadata{NodeID: l.id, ClusterID: 1})
		return joining(raftlog.Recovered{}), err
	}
	if !found {
		return l.found(cfg)
	}
	applied := l.store.Applied()
	var rec raftlog.Recovered
	if l.log, rec, err = raftlog.OpenAfter(cfg, uint64(applied.Index)); err != nil {
		return replica.State{}, err
	}
	if rec.Last == 0 && applied.Index == 0 {
		return joining(rec), nil
	}
	if rec.TornBytes > 0 {
		l.w.counts["torn tails"]++
	}
	return l.resume(rec)
}

// found makes a log that begins with the founding entries.
func (l *life) found(cfg raftlog.Config) (_ replica.State, err error) {
	entries, conf := foundingEntries(l.founders)
	state := raftlog.HardState{Term: 1, Commit: uint64(len(entries))}
	l.log, err = raftlog.Create(cfg, raftlog.Metadata{NodeID: l.id, ClusterID: 1}, raftlog.Save{Entries: entries, State: state})
	return replica.State{HardState: hardState(state), Entries: entries, ConfState: conf}, err
}

// joining waits, with an empty log, for a leader.
func joining(rec raftlog.Recovered) replica.State {
	return replica.State{HardState: hardState(rec.State)}
}

func hardState(s raftlog.HardState) *raftpb.HardState {
	return &raftpb.HardState{Term: new(s.Term), Vote: new(s.Vote), Commit: new(s.Commit)}
}

// resume continues with what log and store were found to hold, after a snapshot that was received but not put in force yet.
func (l *life) resume(rec raftlog.Recovered) (replica.State, error) {
	applied := l.store.Applied()
	if err := rec.Check(uint64(applied.Index)); err != nil {
		return replica.State{}, err
	}
	if slip := l.w.slips.recovered; slip != nil {
		slip(l, &rec)
	}
	state := replica.State{HardState: hardState(rec.State), Entries: rec.Entries, Applied: uint64(applied.Index)}
	state.Before = replica.Position{Index: rec.After, Term: rec.TermAt(rec.After)}
	for _, run := range rec.Terms {
		if run.First <= rec.After {
			state.Older = append(state.Older, replica.TermRun{From: run.First, Term: run.Term})
		}
	}
	if n := len(rec.Snapshots); n > 0 {
		l.released = kv.Index(rec.Snapshots[n-1].Index)
	}
	state.ConfState = new(raftpb.ConfState)
	if applied.Index == 0 {
		state.ConfState = foundingConfState(rec.Entries)
	} else if err := proto.Unmarshal(applied.ConfState, state.ConfState); err != nil {
		return replica.State{}, err
	}
	l.w.note("%s resumes: applied %d, committed %d, last %d, torn %d", l.member, applied.Index, rec.State.Commit, rec.Last, rec.TornBytes)
	return state, nil
}

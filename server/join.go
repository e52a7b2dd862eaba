package server

import (
	"fmt"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
	"holdfast/replica"
)

// Joined is a cluster that exists and that has added this member.
type Joined struct {
	ClusterID uint64
	ID        kv.MemberID // of this member, as the cluster has named it
	// Peers are the cluster's members as they were when it was asked, this one included. The transport connects to them
	// until the member knows the membership itself.
	Peers []membership.Member
}

// join makes an empty log under the ids that the cluster gave. All else, the founding included, comes from the leader.
func (s *Server) join(cfg raftlog.Config) (replica.State, error) {
	meta := raftlog.Metadata{NodeID: uint64(s.cfg.Joined.ID), ClusterID: s.cfg.Joined.ClusterID}
	var err error
	if s.raftLog, err = raftlog.Create(cfg, meta); err != nil {
		return replica.State{}, err
	}
	return s.joinOn(raftlog.Recovered{Metadata: meta}), nil
}

// joinOn waits, with a log that is still empty, for a leader to send what it lacks. Only a member that joins has such a
// log, so after a crash it joins on, whatever the settings say. Whom to answer it hears from whoever calls.
func (s *Server) joinOn(rec raftlog.Recovered) replica.State {
	s.identify(rec.Metadata)
	if s.cfg.ForceNewCluster {
		s.log.Warn("flag has no effect", "flag", "force-new-cluster", "reason", "the member has joined a cluster and holds nothing of it yet")
	}
	s.log.Info("joining a cluster; waiting for its leader", "member", s.id, "cluster", fmt.Sprintf("%x", s.clusterID))
	return replica.State{HardState: hardState(rec.State)}
}

package server

import (
	"fmt"
	"net/http"

	"go.etcd.io/raft/v3/raftpb"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/transport"
)

// raftOf is what the transport sees of this member.
type raftOf struct{ *Server }

var _ transport.Raft = raftOf{}

// Step implements transport.Raft.
func (r raftOf) Step(m *raftpb.Message) error {
	err := r.replica.Step(m)
	if m.GetType() == raftpb.MsgSnap {
		r.catchUp.stepped()
	}
	return err
}

// ReportUnreachable implements transport.Raft.
func (r raftOf) ReportUnreachable(id uint64) { r.replica.ReportUnreachable(id) }

// ReportSnapshot implements transport.Raft.
func (r raftOf) ReportSnapshot(id uint64, arrived bool) { r.replica.ReportSnapshot(id, arrived) }

// IsIDRemoved implements transport.Raft.
func (r raftOf) IsIDRemoved(id uint64) bool { return r.cluster.Removed(kv.MemberID(id)) }

// openTransport makes the connections to the members known so far. Nothing moves before Run.
func (s *Server) openTransport() {
	s.transport = transport.New(transport.Config{
		ID: uint64(s.id), ClusterID: s.clusterID, URLs: s.cfg.PeerURLs,
		Raft:        raftOf{s},
		Snapshots:   s.catchUp,
		Checkpoints: s.checkpoints(),
		Refused:     s.peerRefused,
		DialTimeout: s.cfg.peerDialTimeout(),
		ReadTimeout: s.cfg.PeerReadTimeout, WriteTimeout: s.cfg.PeerWriteTimeout,
		Dial: s.cfg.Dial, TLS: s.cfg.PeerTLS,
		Now: s.cfg.Now, Log: s.log,
	})
	members := s.cluster.Members()
	if len(members) == 0 && s.cfg.Joined != nil {
		members = s.cfg.Joined.Peers
	}
	for _, m := range members {
		s.transport.AddPeer(uint64(m.ID), m.PeerURLs)
	}
}

// followReplacement tells the transport of the membership that came with a received state.
func (s *Server) followReplacement(before []membership.Member) {
	if len(before) == 0 && s.cfg.Joined != nil {
		before = s.cfg.Joined.Peers
	}
	for _, m := range before {
		if _, stays := s.cluster.Member(m.ID); !stays {
			s.transport.RemovePeer(uint64(m.ID))
		}
	}
	for _, m := range s.cluster.Members() {
		s.transport.AddPeer(uint64(m.ID), m.PeerURLs)
		s.transport.UpdatePeer(uint64(m.ID), m.PeerURLs)
	}
	if s.cluster.Removed(s.id) {
		close(s.removed) // once: whoever was removed before is not sent any state
	}
}

// PeerStats counts what went over the connections to other members.
func (s *Server) PeerStats() transport.Stats { return s.transport.Stats() }

// RaftHandler serves /raft and what is below it to other members.
func (s *Server) RaftHandler() http.Handler { return s.transport.Handler() }

// followMembership tells the transport of an applied change.
func (s *Server) followMembership(c membership.Change) {
	id := uint64(c.Member.ID)
	switch c.Kind {
	case membership.AddVoter, membership.AddLearner:
		s.transport.AddPeer(id, c.Member.PeerURLs)
	case membership.Update:
		s.transport.UpdatePeer(id, c.Member.PeerURLs)
	case membership.Remove:
		s.transport.RemovePeer(id)
		if c.Member.ID == s.id {
			close(s.removed) // once: ids are never used again
		}
	case membership.Promote:
	default:
		panic(fmt.Sprintf("server: membership change of kind %d", c.Kind))
	}
}

package server

import (
	"context"
	"time"

	"holdfast/kv"
)

// advertisedLook is how often it is looked whether other members connect to this one, advertisedPatience how long one may take that
// this member reaches: it opens its streams within a second, unless its machine is busy or lost.
const (
	advertisedLook     = 5 * time.Second
	advertisedPatience = 15 * time.Second
)

// watchAdvertised warns when a member that this one reaches does not connect back. The two then still talk, over connections of this
// member's, but no state can be sent here, and every message takes a request of its own.
func (s *Server) watchAdvertised(ctx context.Context) error {
	tick := time.NewTicker(advertisedLook)
	defer tick.Stop()
	silent := map[kv.MemberID]time.Time{} // since when; the zero time once it was warned of
	for {
		select {
		case <-tick.C:
			s.lookAdvertised(silent)
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Server) lookAdvertised(silent map[kv.MemberID]time.Time) {
	for id, p := range s.transport.Stats().Peers {
		member, now := kv.MemberID(id), s.cfg.Now()
		since, known := silent[member]
		switch {
		case !p.Known, !p.Active, p.Attached:
			delete(silent, member)
		case !known:
			silent[member] = now
		case !since.IsZero() && now.Sub(since) >= advertisedPatience:
			silent[member] = time.Time{}
			own, _ := s.cluster.Member(s.id)
			s.log.Warn("a member that this one reaches does not connect to it: the addresses that members are told may be wrong; correct them with etcdctl member update, and the flag",
				"flag", "initial-advertise-peer-urls", "urls", own.PeerURLs, "remote-member-id", member.String())
		}
	}
}

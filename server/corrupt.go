package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/mvcc"
)

// Members compare hashes of their keys, as etcd's do and with them: once before a member serves, and now and then at the
// leader, for all that is there and for what compactions remember. What differs raises the alarm CORRUPT for the member that
// is wrong as far as one can tell; from then on nothing changes the keys (apply.ErrCorrupt).

// CorruptionChecks says which comparisons a member makes.
type CorruptionChecks struct {
	// Initial compares with the other members before this one serves. One that differs does not start.
	Initial bool
	// Every is how often the leader compares everything; 0 is never.
	Every time.Duration
	// Compactions makes the leader compare what members remember of the last compactions, every CompactionsEvery.
	Compactions      bool
	CompactionsEvery time.Duration
}

// peerHash is what another member said about its keys.
type peerHash struct {
	id       kv.MemberID
	hash     mvcc.Hash
	revision kv.Revision // the member's current one
	err      error       // nothing else is set then
}

// peerHashes asks all other members for their hash up to a revision.
func (s *Server) peerHashes(ctx context.Context, rev kv.Revision) []peerHash {
	var answers []peerHash
	for _, m := range s.cluster.Members() {
		if m.ID != s.id && len(m.PeerURLs) > 0 {
			answers = append(answers, s.peerHash(ctx, m, rev))
		}
	}
	return answers
}

func (s *Server) peerHash(ctx context.Context, m membership.Member, rev kv.Revision) (answer peerHash) {
	for _, url := range m.PeerURLs {
		within, cancel := context.WithTimeout(ctx, s.cfg.requestTimeout())
		answer = s.peers.hashKV(within, url, s.clusterID, rev)
		cancel()
		if answer.err == nil {
			break
		}
		s.log.Warn("failed hash kv request", "local-member-id", s.id.String(), "requested-revision", int64(rev), "remote-peer-endpoint", url, "error", answer.err)
	}
	answer.id = m.ID
	return answer
}

// errInconsistent ends a member whose keys are not those of the others.
var errInconsistent = errors.New("found data inconsistency with peers")

// checkInitially compares what this member holds with what others say for the same revision. Who cannot be asked, or has
// compacted differently, says nothing against it.
func (s *Server) checkInitially(ctx context.Context) error {
	s.log.Info("starting initial corruption check", "local-member-id", s.id.String(), "timeout", s.cfg.requestTimeout())
	own, err := s.keys.HashCurrent(ctx)
	if err != nil {
		return fmt.Errorf("%s failed to fetch hash (%w)", s.id, err)
	}
	differ := false
	for _, p := range s.peerHashes(ctx, own.Revision) {
		log := s.log.With("local-member-id", s.id.String(), "local-member-revision", int64(own.Revision),
			"local-member-compact-revision", int64(own.Compact), "local-member-hash", own.Sum, "remote-peer-id", p.id.String())
		switch {
		case errors.Is(p.err, mvcc.ErrFutureRevision):
			log.Warn("cannot fetch hash from slow remote peer", "error", p.err)
		case errors.Is(p.err, mvcc.ErrCompacted):
			log.Warn("cannot fetch hash from remote peer; local member is behind", "error", p.err)
		case errors.Is(p.err, errPeerCluster):
			log.Warn("cluster ID mismatch", "error", p.err)
		case p.err != nil || p.hash.Sum == own.Sum:
		case p.hash.Compact != own.Compact:
			log.Warn("found different compact revision values from remote peer", "remote-peer-revision", int64(p.revision), "remote-peer-compact-revision", int64(p.hash.Compact), "remote-peer-hash", p.hash.Sum)
		default:
			log.Warn("found different hash values from remote peer", "remote-peer-revision", int64(p.revision), "remote-peer-compact-revision", int64(p.hash.Compact), "remote-peer-hash", p.hash.Sum)
			differ = true
		}
	}
	if differ {
		return fmt.Errorf("%s %w", s.id, errInconsistent)
	}
	s.log.Info("initial corruption checking passed; no corruption", "local-member-id", s.id.String())
	return nil
}

// checkCorruption makes the leader's comparisons at their times.
func (s *Server) checkCorruption(ctx context.Context) error {
	checks := s.cfg.Corruption
	all, stopAll := every(checks.Every)
	defer stopAll()
	if !checks.Compactions {
		checks.CompactionsEvery = 0
	}
	compactions, stopCompactions := every(checks.CompactionsEvery)
	defer stopCompactions()
	var checked kv.Revision // of the newest compaction that all members agreed on
	for {
		var check func(context.Context) error
		select {
		case <-all:
			check = s.checkAll
		case <-compactions:
			check = func(ctx context.Context) (err error) {
				checked, err = s.checkCompactions(ctx, checked)
				return err
			}
		case <-ctx.Done():
			return nil
		}
		if !s.leads() {
			continue
		}
		if err := check(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("failed to check hash KV", "error", err)
		}
	}
}

// every is a ticker; 0 never ticks.
func every(d time.Duration) (<-chan time.Time, func()) {
	if d <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// checkAll compares everything that is there.
func (s *Server) checkAll(ctx context.Context) error {
	before, err := s.keys.HashCurrent(ctx)
	if err != nil {
		return err
	}
	peers := s.peerHashes(ctx, before.Revision)
	if err := s.awaitCommitted(ctx); err != nil { // what a peer has shown, this member has too from here on
		return err
	}
	after, err := s.keys.HashCurrent(ctx)
	if err != nil {
		return err
	}
	found := findings(s.id, before, after, s.keys.Revision(), peers)
	for _, f := range found {
		s.log.Warn(f.text, "leader-id", s.id.String(), "leader-revision", int64(after.Revision), "leader-compact-revision", int64(after.Compact),
			"leader-hash", before.Sum, "suspect-id", f.member.String())
	}
	answered := slices.DeleteFunc(peers, func(p peerHash) bool { return p.err != nil })
	s.log.Info("finished peer corruption check", "number-of-peers-checked", len(answered))
	if len(found) == 0 {
		return nil
	}
	return s.raiseCorrupt(ctx, found[0].member) // one at a time, as in etcd
}

// finding is something that must not be, and the member it is held against.
type finding struct {
	member kv.MemberID
	text   string
}

// findings says what is wrong with what members hold. The leader saw before when it asked the peers for that revision, and
// after, with its revision then, when it had everything that any of them could have.
func findings(leader kv.MemberID, before, after mvcc.Hash, revision kv.Revision, peers []peerHash) (found []finding) {
	if after.Sum != before.Sum && after.Revision == before.Revision && after.Compact == before.Compact {
		found = append(found, finding{leader, "found hash mismatch"})
	}
	for _, p := range peers {
		if p.err != nil {
			continue
		}
		if p.revision > revision {
			found = append(found, finding{p.id, "revision from follower must be less than or equal to leader's"})
		}
		if p.hash.Compact > after.Compact {
			found = append(found, finding{p.id, "compact revision from follower must be less than or equal to leader's"})
		}
		if p.hash.Compact == before.Compact && p.hash.Sum != before.Sum {
			found = append(found, finding{p.id, "same compact revision then hashes must match"})
		}
	}
	return found
}

// checkCompactions compares what members remember of the compactions above checked, from the newest down to one that settles
// it, and returns the newest on which all agree.
func (s *Server) checkCompactions(ctx context.Context, checked kv.Revision) (kv.Revision, error) {
	s.log.Info("starting compact hash check", "local-member-id", s.id.String(), "timeout", s.cfg.requestTimeout())
	hashes := s.keys.Hashes()
	slices.SortFunc(hashes, func(a, b mvcc.Hash) int { return cmp.Compare(b.Revision, a.Revision) })
	compared := 0
	for _, own := range hashes {
		if own.Revision <= checked {
			break
		}
		compared++
		peers := s.peerHashes(ctx, own.Revision)
		if len(peers) == 0 {
			continue
		}
		v := compareCompaction(s.id, own, peers)
		log := s.log.With("leader-id", s.id.String(), "leader-revision", int64(own.Revision), "leader-compact-revision", int64(own.Compact), "leader-hash", own.Sum)
		if !v.differ && v.complete {
			log.Info("successfully checked hash on whole cluster", "number-of-peers-checked", len(peers))
			checked = own.Revision
			break
		}
		if !v.differ {
			log.Warn("skipped revision in compaction hash check; was not able to check all peers", "number-of-peers", len(peers))
			continue
		}
		log.Error("Detected compaction hash mismatch", "suspects", fmt.Sprint(v.suspects))
		for _, id := range v.suspects {
			if err := s.raiseCorrupt(ctx, id); err != nil {
				return checked, err
			}
		}
		break
	}
	s.log.Info("finished compaction hash check", "number-of-hashes-checked", compared)
	return checked, nil
}

// verdict is what members' hashes of one compaction say.
type verdict struct {
	differ, complete bool          // whether two differ, whether all members gave theirs
	suspects         []kv.MemberID // where they differ: who is not of the majority; 0, for all, where there is none
}

// compareCompaction holds members against each other that had compacted alike before. Who had not, or did not answer, does not count,
// but a majority is one of all members.
func compareCompaction(leader kv.MemberID, own mvcc.Hash, peers []peerHash) (v verdict) {
	same := map[uint32][]kv.MemberID{own.Sum: {leader}}
	v.complete = true
	for _, p := range peers {
		if p.err != nil || p.hash.Compact != own.Compact {
			v.complete = false
			continue
		}
		same[p.hash.Sum] = append(same[p.hash.Sum], p.id)
	}
	if v.differ = len(same) > 1; !v.differ {
		return v
	}
	majority := false
	for _, members := range same {
		if len(members) > (len(peers)+1)/2 {
			majority = true
			continue
		}
		v.suspects = append(v.suspects, members...)
	}
	if !majority {
		v.suspects = []kv.MemberID{0}
	}
	slices.Sort(v.suspects)
	return v
}

// raiseCorrupt raises the alarm CORRUPT for a member; 0 stands for the cluster.
func (s *Server) raiseCorrupt(ctx context.Context, id kv.MemberID) error {
	if _, err := s.Alarm(ctx, AlarmActivate, membership.Alarm{Member: id, Type: membership.AlarmCorrupt}); err != nil {
		return fmt.Errorf("raise the alarm that member %s is corrupt: %w", id, err)
	}
	return nil
}

package server

import (
	"fmt"
	"strconv"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/metrics"
	"holdfast/transport"
)

// sample shows how the member stands. It asks the parts for their Stats, when somebody looks and never else.
func (s *Server) sample(out *metrics.Sample) {
	s.seen.sample(out)
	s.sampleMember(out)
	s.sampleKeys(out)
	s.sampleWatch(out)
	s.samplePeers(out)
	s.sampleReplica(out)
	s.sampleCatchUp(out)
}

func (s *Server) sampleMember(out *metrics.Sample) {
	status := s.Status()
	out.Bool(metrics.HasLeader, status.Leader != 0)
	out.Bool(metrics.IsLeader, status.Leader == s.id)
	out.Bool(metrics.IsLearner, status.IsLearner)
	out.Set(metrics.Committed, float64(status.Committed))
	out.Set(metrics.Applied, float64(status.Applied))
	out.Set(metrics.QuotaBytes, float64(status.Quota))
	out.Set(metrics.SizeBytes, float64(status.Size))
	out.Set(metrics.SizeInUseBytes, float64(status.SizeInUse))
	out.Set(metrics.ProposalsPending, float64(s.waiters.count()))
	out.Set(metrics.AuthRevision, float64(s.auth.State().Revision()))
	out.Set(metrics.ServerID, 1, s.id.String())
	if v := s.ClusterVersion(); v != "" {
		out.Set(metrics.ClusterVersion, 1, minorOf(v))
	}
	for _, a := range s.cluster.Alarms(membership.AlarmNone) {
		out.Set(metrics.Alarms, 1, a.Member.String(), a.Type.String())
	}
	for _, m := range s.cluster.Members() {
		out.Set(metrics.KnownPeers, 1, s.id.String(), m.ID.String())
	}
	for _, id := range s.cluster.RemovedMembers() {
		out.Set(metrics.KnownPeers, 0, s.id.String(), id.String())
	}
	s.space.sample(out)
}

// minorOf is a version without its patch.
func minorOf(version string) string {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return version
	}
	return fmt.Sprintf("%d.%d", major, minor)
}

func (s *Server) sampleKeys(out *metrics.Sample) {
	out.Set(metrics.Keys, float64(s.keys.Keys()))
	out.Set(metrics.Revision, float64(s.keys.Revision()))
	out.Set(metrics.CompactedRev, float64(s.keys.Compacted()))
	st := s.keys.Stats()
	out.Set(metrics.Ranges, float64(st.Ranges))
	out.Set(metrics.Puts, float64(st.Puts))
	out.Set(metrics.OldPuts, float64(st.Puts))
	out.Set(metrics.Deletes, float64(st.Deletes))
	out.Set(metrics.OldDeletes, float64(st.Deletes))
	out.Set(metrics.Txns, float64(st.Txns+s.seen.readTxns.Load()))
	out.Set(metrics.PutBytes, float64(st.PutBytes))
	out.Set(metrics.CompactionKeys, float64(st.Compacted))
	out.Set(metrics.CensusBlocks, float64(st.CensusBlocks))
	out.Set(metrics.RowCacheRows, float64(st.CachedRows))
	out.Set(metrics.RowCacheBytes, float64(st.CachedBytes))
	s.sampleStore(out)
}

func (s *Server) sampleStore(out *metrics.Sample) {
	out.Set(metrics.Leases, float64(len(s.leases.All())))
	st, err := s.store.Stats()
	if err != nil {
		return // it is being replaced: what is left out is seen at the next look
	}
	for i, l := range st.Levels {
		out.Set(metrics.StoreTables, float64(l.Tables), strconv.Itoa(i))
		out.Set(metrics.StoreTableBytes, float64(l.Bytes), strconv.Itoa(i))
	}
	out.Set(metrics.StoreMemTableBytes, float64(st.MemTableBytes))
	out.Set(metrics.StoreSublevels, float64(st.Sublevels))
	out.Set(metrics.StoreReadAmplification, float64(st.ReadAmp))
	out.Set(metrics.StoreFlushes, float64(st.Flushes))
	out.Set(metrics.StoreCompactions, float64(st.Compactions))
	out.Set(metrics.StoreCompactionDebt, float64(st.CompactionDebtBytes))
	out.Set(metrics.StoreWritten, float64(st.CompactedBytes))
	out.Set(metrics.StoreCacheBytes, float64(st.CacheBytes))
	out.Set(metrics.StoreCacheHits, float64(st.CacheHits))
	out.Set(metrics.StoreCacheMisses, float64(st.CacheMisses))
	out.Set(metrics.StoreMisuses, float64(st.Misuses))
	out.Set(metrics.StoreUnflushed, float64(s.store.Unflushed()))
	out.Bool(metrics.StoreCongested, s.brake.get() >= brakeFrom)
	if durable, err := s.store.Durable(); err == nil {
		out.Set(metrics.DurableIndex, float64(durable.Index))
	}
}

func (s *Server) sampleWatch(out *metrics.Sample) {
	st := s.hub.Stats()
	out.Set(metrics.WatchStreams, float64(st.Streams))
	out.Set(metrics.Watchers, float64(st.Watchers))
	out.Set(metrics.SlowWatchers, float64(st.SlowWatchers))
	out.Set(metrics.WatchEvents, float64(st.Events))
	out.Set(metrics.PendingEvents, float64(st.Pending))
	out.Set(metrics.WatchGroups, float64(st.Groups))
	out.Set(metrics.WatchLagging, float64(st.LaggingWatchers))
	out.Set(metrics.WatchLag, float64(st.Lag))
	out.Set(metrics.WatchLogBytes, float64(st.LogBytes))
	out.Set(metrics.WatchLogFirst, float64(st.LogFirst))
	out.Set(metrics.WatchEncodings, float64(st.Encodings))
	out.Set(metrics.WatchMatches, float64(st.Matches))
	out.Set(metrics.WatchHistoryReads, float64(st.HistoryReads))
}

func (s *Server) samplePeers(out *metrics.Sample) {
	local := s.id.String()
	for id, p := range s.transport.Stats().Peers {
		if id == uint64(s.id) { // it was offered itself as a peer once
			continue
		}
		remote := kv.MemberID(id).String()
		out.Set(metrics.PeerReceivedFailures, float64(p.ReceivedFailures), remote)
		if id == 0 { // senders that are no members
			continue
		}
		out.Bool(metrics.ActivePeers, p.Active, local, remote)
		out.Set(metrics.DisconnectedPeers, float64(p.Disconnections), local, remote)
		out.Set(metrics.PeerSentBytes, float64(p.SentBytes), remote)
		out.Set(metrics.PeerReceivedBytes, float64(p.ReceivedBytes), remote)
		out.Set(metrics.PeerSentFailures, float64(p.SentFailures), remote)
		out.Set(metrics.PeerClockSkew, p.ClockSkew.Seconds(), remote)
		sampleDurations(out, metrics.PeerRoundTrip, p.RoundTrips, remote)
		sampleStates(out, p.SnapshotsSent, remote, statesSent)
		sampleStates(out, p.SnapshotsReceived, remote, statesReceived)
	}
}

// stateFamilies are the names for the states that go in one direction.
type stateFamilies struct{ done, underWay, failed, took *metrics.Family }

var (
	statesSent = stateFamilies{
		metrics.SnapshotsSent, metrics.SnapshotsSending, metrics.SnapshotsSentFailed, metrics.SnapshotSendTime,
	}
	statesReceived = stateFamilies{
		metrics.SnapshotsReceived, metrics.SnapshotsReceiving, metrics.SnapshotsReceivedFailed, metrics.SnapshotReceiveTime,
	}
)

// sampleStates shows the states that went in one direction once there has been one, as etcd does.
func sampleStates(out *metrics.Sample, st transport.SnapshotStats, remote string, as stateFamilies) {
	if st.Inflight == 0 && st.Succeeded == 0 && st.Failed == 0 {
		return
	}
	out.Set(as.done, float64(st.Succeeded), remote)
	out.Set(as.underWay, float64(st.Inflight), remote)
	out.Set(as.failed, float64(st.Failed), remote)
	sampleDurations(out, as.took, st.Took, remote)
}

func sampleDurations(out *metrics.Sample, f *metrics.Family, h transport.Histogram, labels ...string) {
	out.Histogram(f, h.Counts, h.Sum.Seconds(), labels...)
}

func (s *Server) sampleReplica(out *metrics.Sample) {
	status, st := s.replica.Status(), s.replica.Stats()
	out.Set(metrics.SlowReadIndexes, float64(st.ReadsSlow))
	out.Set(metrics.ReadsFailed, float64(st.ReadsFailed))
	out.Set(metrics.ProposalsQueued, float64(st.Queued))
	out.Set(metrics.ProposalsQueuedBytes, float64(st.QueuedBytes))
	out.Bool(metrics.ReplicaStalled, status.Stalled)
	for id, p := range status.Progress {
		if id == uint64(s.id) {
			continue
		}
		to := kv.MemberID(id).String()
		out.Set(metrics.FollowerLag, float64(status.Last-min(p.Match, status.Last)), to)
		out.Bool(metrics.FollowerActive, p.RecentActive, to)
	}
	log := s.raftLog.Stats()
	out.Set(metrics.WALBytes, float64(log.Bytes))
	out.Set(metrics.LogSegments, float64(log.Segments))
	out.Set(metrics.LogEntries, float64(log.Last+1-log.First))
	out.Set(metrics.LogWritten, float64(log.Entries))
	out.Set(metrics.LogWrites, float64(log.Writes))
	out.Set(metrics.LogSyncs, float64(log.Syncs))
}

func (s *Server) sampleCatchUp(out *metrics.Sample) {
	st := s.CatchUpStats()
	for work, w := range map[string]WorkStats{"send": st.Sent, "receive": st.Received, "export": st.Exported, "import": st.Imported} {
		out.Set(metrics.CatchUpUnderWay, float64(w.UnderWay), work)
		out.Set(metrics.CatchUpDone, float64(w.Done), work)
		out.Set(metrics.CatchUpFailed, float64(w.Failed), work)
		out.Set(metrics.CatchUpBytes, float64(w.Bytes), work)
		out.Set(metrics.CatchUpTime, w.Took.Seconds(), work)
	}
	out.Set(metrics.CatchUpInForce, float64(st.InForce))
	out.Bool(metrics.SnapshotApplying, st.Imported.UnderWay > 0)
}

// Package server is one member: it opens, wires, runs and stops all parts, and does the leader's duties.
//
// A request comes in as a method call, becomes an entry of the raft log, and is answered when the entry is applied; a
// read waits until this member has applied what was committed when it came, and then reads the store without the log.
//
//	Errors   those in errors.go, and of apply, mvcc, lease, auth and membership
//	Source   etcd 3.7 for what callers feel
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/apply"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/raftlog"
	"holdfast/replica"
	"holdfast/storage"
	"holdfast/transport"
	"holdfast/util/queue"
	"holdfast/watch"
)

// Server is one member. Its methods may be called from any goroutine once Open has returned; they answer while Run runs.
type Server struct {
	cfg Config
	log *slog.Logger
	dir *dataDir

	id        kv.MemberID
	clusterID uint64

	store   *storage.Store
	keys    *mvcc.Store
	leases  *lease.Set
	auth    *auth.Store
	cluster *membership.Cluster
	machine *apply.Machine
	hub     *watch.Hub

	raftLog   *raftlog.Log
	replica   *replica.Replica
	transport *transport.Transport
	catchUp   *catchUp
	// replayed is the last index that the log held at start.
	replayed kv.Index
	// released is the index at which the log was last told that it may begin; flushAndRelease's own once Run runs.
	released kv.Index

	// peers asks other members what goes beside raft.
	peers *peerClient

	// seen is what is counted as it happens.
	seen *instruments

	ids     *ids
	waiters *waiters
	clock   *leaseClock
	// agreeing is held from when the clock decides on checkpoints until they are proposed, so that they stand in the log
	// before what takes them back.
	agreeing sync.Mutex
	space    *spaceGuard

	// leaderElected is when the last leader came up, leaderLost when one was lost; nil if that never was. leaderChanges counts
	// the latter.
	leaderElected, leaderLost atomic.Pointer[time.Time]
	leaderChanges             atomic.Uint64

	// fullAnswers are results that wait until the alarm they raise is in force.
	fullAnswers *queue.Mailbox[apply.Result]
	fullWake    chan struct{}
	// compacted has one slot: there may be something to compact.
	compacted chan struct{}
	// flushable has one slot: there may be enough to flush.
	flushable chan struct{}
	// versionChanged has one slot: the cluster has another version.
	versionChanged chan struct{}
	// reclaimable has one slot: a compaction is complete.
	reclaimable chan struct{}
	// failed receives the first error of the store's background work, stuck the same a while later, in case a part still
	// waits for the disk.
	failed, stuck chan error
	// brake slows writers down while flushes and merges of tables are behind.
	brake brake
	// courtesy holds up merges and the removal of old revisions while requests are served.
	courtesy *courtesy
	// refused has the members that were found to be down and not looked at yet.
	refused chan kv.MemberID
	// removed is closed when the member has applied its own removal.
	removed chan struct{}
	// ready is closed when the member has published itself.
	ready chan struct{}
	// stopped is closed when Run returns.
	stopped chan struct{}
}

// Open opens the member's data, or founds a cluster in an empty directory, and makes everything ready to Run.
func Open(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, waiters: newWaiters(), seen: newInstruments(cfg.Metrics, cfg.Now), clock: newLeaseClock(cfg.Now, !cfg.LeaseCheckpointsOff),
		fullWake: make(chan struct{}, 1), compacted: make(chan struct{}, 1), flushable: make(chan struct{}, 1),
		failed: make(chan error, 1), stuck: make(chan error, 1), reclaimable: make(chan struct{}, 1),
		versionChanged: make(chan struct{}, 1),
		refused:        make(chan kv.MemberID, refusedMax), removed: make(chan struct{}),
		ready: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.courtesy = &courtesy{now: cfg.Now}
	s.fullAnswers = queue.NewMailbox[apply.Result](s.fullWake)
	s.peers = newPeerClient(peerClientConfig{DialTimeout: cfg.peerDialTimeout(), Dial: cfg.Dial, TLS: cfg.PeerTLS})
	var err error
	if s.dir, err = openDataDir(cfg.FS, cfg.DataDir, cfg.WALDir); err != nil {
		return nil, err
	}
	if err := s.openParts(); err != nil {
		return nil, errors.Join(err, s.closeParts())
	}
	cfg.Metrics.Sample(s.sample)
	return s, nil
}

func (s *Server) openParts() (err error) {
	if s.space, err = newSpaceGuard(s.dir.fs, s.dir.path(), s.dir.wal); err != nil {
		return err
	}
	if s.cfg.SegmentBytes == 0 {
		s.cfg.SegmentBytes = s.space.segmentBytes()
	}
	s.cfg.Memory.FlushBytes = s.space.flushBytes(s.cfg.Memory.FlushBytes)
	if err := s.openState(); err != nil {
		return err
	}
	return s.openReplica()
}

// storeConfig is that of a store in dir.
func (s *Server) storeConfig(dir string) storage.Config {
	return storage.Config{
		FS: s.dir.fs, Dir: dir, CacheBytes: s.cfg.Memory.CacheBytes, MemTableBytes: s.cfg.Memory.MemTableBytes,
		FlushBytes: s.cfg.Memory.FlushBytes, TableBytes: s.space.tableBytes(), Log: s.log, Now: s.cfg.Now, Pace: s.courtesy.merge, Late: s.courtesy.late,
		OnFatal: func(err error) {
			select {
			case s.failed <- err:
			default: // the first one stops the member
			}
		},
	}
}

// openState opens the store and what lives in it.
func (s *Server) openState() error {
	if err := s.takeOver(); err != nil {
		return err
	}
	dir, err := s.dir.settleStore(s.log)
	if err != nil {
		return err
	}
	cfg := s.storeConfig(dir)
	if !s.dir.has(cfg.Dir) {
		if err := storage.Create(cfg); err != nil {
			return err
		}
	}
	if s.store, err = storage.Open(cfg); err != nil {
		return err
	}
	s.space.pending = s.store.Unflushed
	if s.keys, err = mvcc.Open(s.store, mvcc.Config{RowCacheBytes: s.cfg.Memory.RowCacheBytes, RecentBytes: s.cfg.Memory.RecentBytes}); err != nil {
		return err
	}
	if s.leases, err = lease.Load(s.store, s.cfg.leaseTTLMin()); err != nil {
		return err
	}
	if s.auth, err = auth.Load(s.store); err != nil {
		return err
	}
	if s.cluster, err = membership.Load(s.store, s.cfg.LearnersMax); err != nil {
		return err
	}
	if err := checkVersion(s.cluster.Version()); err != nil {
		return err
	}
	s.hub = watch.New(watch.Config{
		LogBytes: s.cfg.Memory.WatchLogBytes, FragmentBytes: s.cfg.RequestBytesMax + watchFragmentExtra, History: s.keys,
	})
	s.hub.SetHead(s.keys.Revision())
	s.machine = apply.New(apply.Config{
		Store: s.store, Keys: s.keys, Leases: s.leases, Auth: s.auth, Cluster: s.cluster, Quota: s.cfg.Quota,
		Publish: s.hub.Append, Watch: seenLeases{s.clock, s.seen}, Observer: s.seen, Tokens: s.cfg.Tokens, Wanted: s.waiters.waits, WantsPrev: s.hub.WantsPrev,
	})
	return nil
}

// openReplica opens the raft log and gives raft what was found.
func (s *Server) openReplica() error {
	state, err := s.openLog()
	if err != nil {
		return err
	}
	if err := s.refuseRemoved(); err != nil {
		return err
	}
	s.ids = newIDs(s.id, s.cfg.Now())
	s.catchUp = newCatchUp(s)
	s.openTransport()
	s.replica, err = replica.New(replica.Config{
		ID:               uint64(s.id),
		ElectionTicks:    s.cfg.ElectionTicks,
		PreVote:          s.cfg.PreVote,
		ReadRetryTicks:   int(readRetry / s.cfg.Heartbeat),
		ReadTimeoutTicks: int(s.cfg.requestTimeout() / s.cfg.Heartbeat),
		ReadSeed:         s.ids.draw(),
		Limits:           replica.Limits{QueuedBytes: s.cfg.Memory.QueueBytes, UncommittedBytes: s.cfg.Memory.QueueBytes, KeptBytes: s.cfg.Memory.KeptBytes},
		Log:              logOf{s.raftLog},
		Machine:          &machineOf{Server: s, hidden: s.keys.Compacted()},
		Snapshots:        s.catchUp,
		ChangeSettled:    s.changeSettled,
		Transport:        newHeartbeatWatch(s.transport, s.seen, s.cfg.Heartbeat),
		Logger:           s.log,
	}, state)
	return err
}

// readRetry is after how long an unanswered read index question is asked again, as in etcd.
const readRetry = 500 * time.Millisecond

// Run does the member's work until ctx ends, which is no error, or a part fails: then it stops the others and returns the
// first error; transport.ErrRemoved if the cluster has removed the member. When ctx ends, a leader hands over first.
// Everyone who waits is answered with ErrStopped. Call Close afterwards.
func (s *Server) Run(ctx context.Context) error {
	defer s.stop()
	if s.cfg.Corruption.Initial && s.store.Applied().Index > 0 { // a young member has nothing to compare
		if err := s.checkInitially(ctx); err != nil {
			return err
		}
	}
	s.courtesy.watch(sights{work: s.work, waiting: s.waiters.count, depth: s.store.Sublevels})
	defer s.courtesy.watch(sights{}) // what is merged when the store closes does not rest
	ticks := time.NewTicker(s.cfg.Heartbeat)
	defer ticks.Stop()
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, running := errgroup.WithContext(living)
	g.Go(func() error { return s.retire(ctx, running, stop) })    // ends the others when ctx has ended
	g.Go(func() error { return s.replica.Run(running, ticks.C) }) // owns raft, the end of the log, the state machine
	g.Go(func() error { return s.transport.Run(running) })        // owns the connections to other members
	g.Go(func() error { return s.watchAdvertised(running) })      // warns when other members cannot connect to this one
	g.Go(func() error { return s.failOver(running) })             // stands for election when the leader is certainly down
	g.Go(func() error { return s.hurryElection(running) })        // brings the first election forward
	g.Go(func() error { return s.leaveWhenRemoved(running) })     // ends the member when the cluster has removed it
	g.Go(func() error { return s.followLeadership(running) })     // on the leader: does what only the leader does
	g.Go(func() error { return s.expireWaiters(running) })        // answers requests that take too long
	g.Go(func() error { return s.followVersion(running) })        // tells of the cluster's version in the log
	g.Go(func() error { return s.checkCorruption(running) })      // on the leader: compares the members, raises the alarm
	g.Go(func() error { return s.publish(running) })              // tells the cluster who this member is, once
	g.Go(func() error { return s.raiseSpaceAlarms(running) })     // answers requests that found no space
	g.Go(func() error { return s.space.watch(running, s.log) })   // owns whether the disk is low
	g.Go(func() error { return s.compactPhysically(running) })    // owns the removal of old revisions
	g.Go(func() error { return s.recallKeys(running) })           // lets the applier know all keys
	g.Go(func() error { return s.flushAndRelease(running) })      // makes the store durable and frees the log
	g.Go(func() error { return s.autoCompact(running) })          // on the leader: proposes compactions
	g.Go(func() error { return s.reclaimSpace(running) })         // gives the space of removed revisions back
	g.Go(func() error { return s.watchStore(running) })           // stops the member when the store cannot be trusted
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }() // ends with the parts, unless the disk holds one of them for good
	var err error
	select {
	case err = <-ended:
	case err = <-s.stuck:
	}
	return err
}

// stop lets go of everyone who waits for the member.
func (s *Server) stop() {
	close(s.stopped)
	s.waiters.close(ErrStopped)
}

// stuckAfter is how long parts may wait for a disk that has failed before they are left behind.
const stuckAfter = 10 * time.Second

// watchStore ends when the store's background work has failed: what was applied can no longer become durable.
func (s *Server) watchStore(ctx context.Context) error {
	select {
	case err := <-s.failed:
		err = fmt.Errorf("the store can no longer be trusted: %w", err)
		time.AfterFunc(stuckAfter, func() { s.stuck <- err })
		return err
	case <-ctx.Done():
		return nil
	}
}

// Close makes what was applied durable and lets go of the data. Run must have returned.
func (s *Server) Close() error {
	var err error
	if s.store.Err() == nil {
		err = s.store.Flush()
	}
	return errors.Join(err, s.closeParts())
}

func (s *Server) closeParts() error {
	s.peers.close()
	var errs []error
	if s.catchUp != nil {
		errs = append(errs, s.catchUp.close())
	}
	if s.raftLog != nil {
		errs = append(errs, s.raftLog.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.dir != nil {
		errs = append(errs, s.dir.lock.Close())
	}
	return errors.Join(errs...)
}

// Ready is closed once the member has told the cluster who it is: from then on it serves clients.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Stopped is closed once the member does no more work.
func (s *Server) Stopped() <-chan struct{} { return s.stopped }

// ID names this member.
func (s *Server) ID() kv.MemberID { return s.id }

// ClusterID names the cluster.
func (s *Server) ClusterID() uint64 { return s.clusterID }

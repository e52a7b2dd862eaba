package sim

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"holdfast/apply"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/raftlog"
	"holdfast/replica"
	"holdfast/server"
	"holdfast/storage"
	"holdfast/token"
	"holdfast/watch"
)

const (
	tick          = 100 * time.Millisecond
	electionTicks = 10
	segmentBytes  = 64 << 10 // small enough that a run cuts segments often
	memTableBytes = 4 << 20
	leaseTTLMin   = 2
)

// tuning is what differs between seeds, because it decides which of the rare things happen often. All of it is far smaller
// than in earnest, so that a run has room for many flushes, releases and snapshots.
type tuning struct {
	preVote                       bool
	flushBytes                    int64
	watchLogBytes                 int
	compactionRows                int
	keptEntries                   int // in memory, for followers
	snapshotEvery, catchUpEntries uint64
	compactAfter                  int // flushes
}

func (w *world) drawTuning() tuning {
	return tuning{
		preVote: w.chance(80), flushBytes: 4<<10 + w.rnd.Int64N(80<<10), watchLogBytes: w.rnd.IntN(40 << 10), compactionRows: 1 + w.rnd.IntN(40),
		keptEntries: 1 + w.rnd.IntN(120), snapshotEvery: 20 + w.rnd.Uint64N(300), catchUpEntries: w.rnd.Uint64N(200),
		compactAfter: 4 + w.rnd.IntN(24),
	}
}

// member is a configured node: what outlives a crash, and what goes wrong with it.
type member struct {
	w        *world
	index    int
	id       uint64
	founders []membership.Member
	absent   bool // its addition is not in the log yet
	gone     bool // it was removed and does not come back
	disk     *disk
	life     *life // nil while it is down
	left     *disk // what a failure of the power has left; nil: it has not failed
	lives    int

	pausedUntil     time.Duration // the process does nothing
	logStuckUntil   time.Duration // the raft log's disk does not answer
	applyStuckUntil time.Duration // the state machine does not answer
	fullUntil       time.Duration // the disk has no room
	clockAhead      time.Duration // of the member's clock before simulated time
}

func newMember(w *world, index int, founders []membership.Member) *member {
	return &member{
		w: w, index: index, absent: founders == nil, id: uint64(index + 1), founders: founders,
		disk: newDisk(vfs.NewCrashableMem(), vfs.NewCrashableMem()),
	}
}

// String names the member in the event log.
func (m *member) String() string { return fmt.Sprintf("m%d", m.id) }

// clock is what the member's clock shows.
func (m *member) clock() time.Duration { return m.w.now + m.clockAhead }

func (m *member) heal() {
	m.pausedUntil, m.logStuckUntil, m.applyStuckUntil, m.fullUntil = 0, 0, 0, 0
	m.disk.setFull(false)
	m.start()
}

// life is a running member, from its start to its crash.
type life struct {
	*member
	number int
	ended  bool // nothing it does counts any more
	fatal  atomic.Pointer[error]

	store   *storage.Store
	keys    *mvcc.Store
	leases  *lease.Set
	auth    *auth.Store
	tokens  *token.Simple // who is logged in; as in earnest it is gone with the process
	cluster *membership.Cluster
	machine *apply.Machine
	hub     *watch.Hub
	log     *raftlog.Log
	replica *replica.Replica

	appliedIndex uint64
	waiting      map[uint64]*request
	reads        []*read
	leaseClock   server.LeaseClock
	led          uint64 // term in which the lease clock runs; 0 if it does not

	loop, writer, applier, reader work
	busy                          bool // the present piece of work did something

	flushes                       int
	released, releasing, recorded kv.Index
	releaseAt                     raftlog.SnapshotRecord // what releasing stands for
	incoming                      *incoming
}

// work is one of a member's pieces of work. It is planned when there may be some.
type work struct {
	lo, hi  time.Duration // how long it takes to come to it
	do      func()
	planned bool
}

// start opens what is on the disk.
func (m *member) start() {
	if m.life != nil || m.absent || m.gone {
		return
	}
	m.lives++
	l := &life{member: m, number: m.lives, waiting: map[uint64]*request{}}
	l.leaseClock = server.NewLeaseClock(l.wallClock, true)
	l.tokens = token.NewSimple(token.SimpleConfig{Now: l.wallClock})
	m.life = l
	m.w.note("%s starts, life %d", m, l.number)
	err := l.open()
	if l.ended {
		l.w.counts["power failed at a start"]++
		l.settle()
		return
	}
	if err != nil {
		l.stop(fmt.Errorf("start: %w", err))
		return
	}
	if l.cluster.Removed(kv.MemberID(l.id)) {
		m.retire()
		return
	}
	l.loop = work{20 * time.Microsecond, 300 * time.Microsecond, l.advance, false}
	l.writer = work{100 * time.Microsecond, 3 * time.Millisecond, l.writeLog, false}
	l.applier = work{50 * time.Microsecond, 2 * time.Millisecond, l.applyCommitted, false}
	l.reader = work{100 * time.Microsecond, 5 * time.Millisecond, l.readLog, false}
	m.w.after(m.w.between(0, tick), l.ticks)
	m.w.after(m.w.between(0, upkeepInterval), l.upkeep)
	l.poke(&l.loop)
}

func (l *life) open() error {
	dir, err := l.settleStore()
	if err != nil {
		return err
	}
	if err := l.openStore(dir); err != nil {
		return err
	}
	state, err := l.openLog()
	if err != nil {
		return err
	}
	l.appliedIndex = state.Applied
	l.replica, err = replica.New(replica.Config{
		ID: l.id, ElectionTicks: electionTicks, PreVote: l.w.tuning.preVote, ReadRetryTicks: 5, ReadTimeoutTicks: 70, ReadSeed: l.w.rnd.Uint64() >> 1,
		Limits: replica.Limits{KeptEntries: l.w.tuning.keptEntries, ApplyingBytes: 16 << 10},
		Log:    logOf{l}, Machine: machineOf{l}, Snapshots: snapshotsOf{l}, Transport: transportOf{l}, Logger: l.w.logger,
		ChangeSettled: l.settled,
	}, state)
	return err
}

// openStore opens the store and what lives in it.
func (l *life) openStore(dir string) (err error) {
	cfg := l.storeConfig(dir)
	if _, err := cfg.FS.Stat(dir); err != nil {
		if err := storage.Create(cfg); err != nil {
			return err
		}
	}
	if l.store, err = storage.Open(cfg); err != nil {
		return err
	}
	if l.keys, err = mvcc.Open(l.store, mvcc.Config{RowCacheBytes: 16 << 10, RecentBytes: 4 << 10}); err != nil {
		return err
	}
	if l.leases, err = lease.Load(l.store, leaseTTLMin); err != nil {
		return err
	}
	if l.auth, err = auth.Load(l.store); err != nil {
		return err
	}
	if l.cluster, err = membership.Load(l.store, learnersMax); err != nil {
		return err
	}
	l.hub = watch.New(watch.Config{LogBytes: l.w.tuning.watchLogBytes, FragmentBytes: 1 << 20, History: historyOf{l}})
	l.hub.SetHead(l.keys.Revision())
	l.machine = apply.New(apply.Config{
		Store: l.store, Keys: l.keys, Leases: l.leases, Auth: l.auth, Cluster: l.cluster, Publish: l.publish, Watch: l.leaseClock.Events(), Tokens: tokensOf{l.tokens},
		Wanted: func(id uint64) bool { return l.waiting[id] != nil }, WantsPrev: l.hub.WantsPrev,
	})
	return nil
}

func (l *life) storeConfig(dir string) storage.Config {
	return storage.Config{
		FS: l.disk.storeFS, Dir: dir, CacheBytes: 1 << 20, MemTableBytes: memTableBytes, FlushBytes: l.w.tuning.flushBytes,
		ManualCompactions: true, Log: l.w.logger, Now: l.wallClock,
		OnFatal: func(err error) { l.fatal.CompareAndSwap(nil, &err) },
	}
}

// historyOf lets watchers read the keys, and counts it.
type historyOf struct{ *life }

// Events implements watch.History.
func (h historyOf) Events(from kv.Rev, upTo kv.Revision, maxBytes int, withPrev bool) ([]kv.Event, kv.Rev, error) {
	h.w.counts["watch reads of history"]++
	return h.keys.Events(from, upTo, maxBytes, withPrev)
}

// Compacted implements watch.History.
func (h historyOf) Compacted() kv.Revision { return h.keys.Compacted() }

// publish gives watchers what a run changed.
func (l *life) publish(changes []kv.Change) {
	if slip := l.w.slips.publish; slip != nil {
		changes = slip(l, changes)
	}
	l.hub.Append(changes)
}

// poke plans a piece of work unless it is planned.
func (l *life) poke(p *work) {
	if p.planned || l.ended {
		return
	}
	p.planned = true
	l.w.after(l.w.between(p.lo, p.hi), func() { l.perform(p) })
}

// perform does a piece of work now, or when the process goes on.
func (l *life) perform(p *work) {
	switch {
	case l.ended:
	case l.pausedUntil > l.w.now:
		l.w.after(l.pausedUntil-l.w.now, func() { l.perform(p) })
	case p == &l.writer && l.logStuckUntil > l.w.now:
		l.w.after(l.logStuckUntil-l.w.now, func() { l.perform(p) })
	case p == &l.applier && l.applyStuckUntil > l.w.now:
		l.w.after(l.applyStuckUntil-l.w.now, func() { l.perform(p) })
	default:
		p.planned = false
		p.do()
		l.settle()
	}
}

// when calls do if the member lives and is not paused.
func (l *life) when(do func()) func() bool {
	return func() bool {
		if !l.ended && l.pausedUntil <= l.w.now {
			do()
			l.settle()
		}
		return !l.ended
	}
}

func (l *life) ticks() {
	l.w.every(tick, l.when(func() {
		l.replica.Tick()
		l.poke(&l.loop)
		l.tendLeases()
	}))
}

func (l *life) advance() {
	l.replica.Advance()
	l.checkReads()
	l.followLeadership()
	l.poke(&l.writer)
	l.poke(&l.applier)
	l.poke(&l.reader)
}

func (l *life) writeLog() { l.attempt(&l.writer, l.replica.WriteLog) }

func (l *life) applyCommitted() {
	l.attempt(&l.applier, l.replica.ApplyCommitted)
	if !l.ended {
		l.checkReads()
	}
}

func (l *life) readLog() { l.attempt(&l.reader, l.replica.ReadLog) }

// attempt does a piece of work that can fail, and has the loop look at what came of it.
func (l *life) attempt(p *work, do func() error) {
	l.busy = false
	err := do()
	switch {
	case l.ended:
	case err != nil:
		l.stop(err)
	case l.busy:
		l.poke(&l.loop)
		l.poke(p)
	}
}

func (l *life) receive(from *member, m *raftpb.Message) {
	if m.GetType() == raftpb.MsgSnap {
		l.receiveSnapshot(from, m)
		return
	}
	l.step(m)
}

func (l *life) step(m *raftpb.Message) {
	if err := l.replica.Step(m); err != nil {
		l.w.fail("%s refused a message of type %v: %v", l.member, m.GetType(), err)
	}
	l.poke(&l.loop)
}

// transportOf lets the replica send.
type transportOf struct{ *life }

// Send implements replica.Transport.
func (t transportOf) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		if t.ended {
			return
		}
		if m.GetType() == raftpb.MsgSnap {
			t.sendSnapshot(m)
		} else {
			t.w.net.send(t.member, m)
		}
	}
}

// settle ends the member if the power failed or the store broke during what it did last.
func (l *life) settle() {
	if l.ended {
		if l.life == l && l.left != nil {
			l.goDown(l.left, l.w.between(100*time.Millisecond, 4*time.Second))
		}
		return
	}
	if err := l.fatal.Load(); err != nil {
		l.stop(*err)
	}
}

// failAfter lets the power fail at the nth operation of the disk from now, be it in the middle of a write. With ofLog it fails at
// the nth sync of the raft log: what was written before it may be there in part.
func (m *member) failAfter(n int, ofLog bool) {
	d := m.disk
	rng := rand.New(rand.NewPCG(m.w.rnd.Uint64(), 2))
	what := loss(rng.IntN(3))
	if ofLog {
		what = loseSome
	}
	d.failAfter(n, ofLog, func() {
		if m.life != nil && !m.life.ended {
			m.life.ended, m.left = true, d.image(what, rng)
		}
	})
}

// stop ends a member that met an error, as its process would, and starts it again later. Only a full disk is a reason.
func (l *life) stop(err error) {
	if !l.ended && l.fullUntil <= l.w.now {
		l.w.fail("%s stopped without a reason: %v", l.member, err)
	}
	l.w.counts["stops on a full disk"]++
	l.w.note("%s stops: %v", l.member, err)
	l.crash(loseNothing, max(l.fullUntil-l.w.now, 0)+l.w.between(100*time.Millisecond, 2*time.Second))
}

// crash ends a member now; its disk keeps what the loss leaves. It starts again after a while.
func (m *member) crash(what loss, downFor time.Duration) {
	l := m.life
	if l == nil {
		return
	}
	rng := rand.New(rand.NewPCG(m.w.rnd.Uint64(), 1))
	after := m.disk.image(what, rng)
	m.goDown(after, downFor)
}

// goDown ends the present life; the next one begins on the disk given.
func (m *member) goDown(after *disk, downFor time.Duration) {
	l := m.life
	l.disk.setFull(false) // so that Pebble ends
	l.end()
	m.life, m.disk, m.left = nil, after, nil
	m.disk.full = m.fullUntil > m.w.now
	m.w.note("%s is down for %v", m, downFor)
	m.w.after(downFor, m.start)
	m.mourn()
}

// end lets go of everything. Nobody is answered any more.
func (l *life) end() {
	l.ended = true
	for _, id := range sortedKeys(l.waiting) {
		l.waiting[id].forget()
	}
	for _, r := range l.reads {
		r.forget()
	}
	l.reads = nil
	for _, wt := range l.w.watchers {
		if wt.life == l {
			wt.lose()
		}
	}
	if l.log != nil {
		_ = l.log.Close() // of a disk that nobody looks at again
	}
	if l.incoming != nil && l.incoming.store != nil {
		_ = l.incoming.store.Close()
	}
	if l.store != nil {
		_ = l.store.Close()
	}
}

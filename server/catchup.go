package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/auth"
	"holdfast/checkpoint"
	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/replica"
	"holdfast/storage"
	"holdfast/transport"
	"holdfast/util/durable"
)

// catchUp sends this member's state to others whose entries the log no longer has, and takes in theirs.
//
// A received state comes into force in three steps, between which the raft log records it: Receive puts it together beside
// the present one, durably; Prepare opens it; Commit moves the marker that names the store in force, and has every part
// of the member go on with what is in the new one. Whatever is wrong with a state shows in Receive, where it costs
// nobody anything.
type catchUp struct {
	*Server
	counts catchUpCounts
	flying flying

	mu sync.Mutex // guards the field below; released before I/O
	// state is what was received last, until it is in force or given up; nil for none.
	state *receivedState
}

var (
	_ transport.Snapshots = (*catchUp)(nil)
	_ replica.Snapshots   = (*catchUp)(nil)
)

func newCatchUp(s *Server) *catchUp { return &catchUp{Server: s, flying: newFlying(s.cfg.Now)} }

// receivedState is a state that lies whole and durable beside the one in force.
type receivedState struct {
	at   storage.Applied
	name string // of its directory
	// began is when its first byte came: the state is not younger.
	began time.Time
	// stepped says that raft was told of it.
	stepped bool
	// opened is what Prepare has opened; nil before.
	opened *openedState
}

// openedState is a state ready to be put in force.
type openedState struct {
	store   *storage.Store
	keys    *mvcc.Store
	leases  *lease.Set
	auth    *auth.Store
	cluster *membership.Cluster
}

// errStillRestoring refuses a state while the one before is on its way into force.
var errStillRestoring = errors.New("the state received before is being put in force")

// Receive implements transport.Snapshots.
func (c *catchUp) Receive(ctx context.Context, m *raftpb.Message, in transport.Incoming) error {
	meta := m.GetSnapshot().GetMetadata()
	if meta.GetIndex() <= c.replica.Status().Applied {
		// raft answers that this is known already. The sender wants to get rid of all it has before it listens.
		_, err := io.Copy(io.Discard, in.Body)
		return err
	}
	confState, err := proto.Marshal(meta.GetConfState())
	if err != nil {
		return fmt.Errorf("encode the raft configuration: %w", err)
	}
	if err := c.giveUp(ctx); err != nil {
		return err
	}
	state := &receivedState{
		at:    storage.Applied{Index: kv.Index(meta.GetIndex()), Term: kv.Term(meta.GetTerm()), ConfState: confState},
		name:  storeReceived(meta.GetIndex()),
		began: c.cfg.Now(),
	}
	body := &guardedBody{r: in.Body, stopped: func(n int) error { return c.stopped(ctx, int64(n)) }}
	if err := c.take(ctx, state, in, body); err != nil {
		return errors.Join(err, c.dir.fs.RemoveAll(c.dir.path(state.name+storeUnfinished)))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
	return nil
}

// take puts the state that comes in together and makes it durable.
func (c *catchUp) take(ctx context.Context, state *receivedState, in transport.Incoming, body *guardedBody) error {
	if err := c.needRoomFor(in); err != nil {
		return err
	}
	unfinished := c.dir.path(state.name + storeUnfinished)
	// One of this name may have been received to its end and yet been refused, or not been noted. It is not in force: the index
	// is beyond what is applied.
	for _, left := range []string{unfinished, c.dir.path(state.name)} {
		if err := c.dir.fs.RemoveAll(left); err != nil {
			return err
		}
	}
	end := c.counts.received.begin(c.cfg.Now)
	err := c.assemble(ctx, state, in.Form, unfinished, body)
	took := end(body.n, err)
	if err != nil {
		return err
	}
	c.seen.statesKept.Took(took)
	if err := c.dir.fs.Rename(unfinished, c.dir.path(state.name)); err != nil {
		return fmt.Errorf("name the received state: %w", err)
	}
	failpointSnapDBRenameBeforeDirSync()
	if err := durable.Names(c.dir.fs, c.dir.path()); err != nil {
		return fmt.Errorf("name the received state: %w", err)
	}
	c.log.Info("received a state", "form", in.Form.String(), "index", state.at.Index, "bytes", body.n,
		"took", took, "bytes-per-second", transport.Rate(body.n, took))
	return nil
}

// assemble makes a durable store in dir out of body.
func (c *catchUp) assemble(ctx context.Context, state *receivedState, form transport.Form, dir string, body *guardedBody) error {
	if form == transport.Checkpoint {
		return c.takeCheckpoint(ctx, dir, body, state.at)
	}
	path := c.dir.path("tmp", strconv.FormatUint(c.ids.draw(), 16)+".snap.db")
	err := c.keep(path, body)
	if err == nil {
		err = c.importDatabase(ctx, path, dir, state.at)
	}
	return errors.Join(err, c.removeTemp(path))
}

// takeCheckpoint makes a store in dir out of the files of another member's.
func (c *catchUp) takeCheckpoint(ctx context.Context, dir string, body io.Reader, at storage.Applied) error {
	if err := checkpoint.Receive(c.dir.fs, dir, body); err != nil {
		return err
	}
	// A disk may have damaged the sender's tables before they were sent: do not take that over.
	cfg := storage.Config{FS: c.dir.fs, Dir: dir}
	if err := storage.Check(cfg, func(int64) error { return c.stopped(ctx, 0) }); err != nil {
		return err
	}
	got, err := storage.AppliedIn(cfg)
	if err == nil && (got.Index != at.Index || got.Term != at.Term) {
		err = fmt.Errorf("the checkpoint received for entry %d of term %d is the state at %d of %d", at.Index, at.Term, got.Index, got.Term)
	}
	return err
}

// keep writes body into a file, which needs to outlive nothing.
func (c *catchUp) keep(path string, body io.Reader) error {
	f, err := c.dir.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("keep the database received: %w", err)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, body, make([]byte, copyBytes))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep the database received: %w", err)
	}
	return nil
}

// copyBytes is how much is copied at a time between network and disk.
const copyBytes = 256 << 10

// importDatabase makes a store in dir out of the etcd database in path.
func (c *catchUp) importDatabase(ctx context.Context, path, dir string, at storage.Applied) (err error) {
	db, err := etcdfile.Open(c.dir.fs, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	end := c.counts.imported.begin(c.cfg.Now)
	defer func() { end(db.Size(), err) }()
	cfg := c.storeConfig(dir)
	cfg.OnFatal = nil // its commits and its flush tell
	if err := storage.Create(cfg); err != nil {
		return err
	}
	st, err := storage.Open(cfg)
	if err != nil {
		return err
	}
	i := importer{
		st: st, db: db, at: at, leaseTTLMin: c.cfg.leaseTTLMin(), learnersMax: c.cfg.LearnersMax,
		stopped: func(n int) error { return c.stopped(ctx, int64(n)) },
	}
	err = i.run()
	if err == nil {
		err = st.Flush()
	}
	return errors.Join(err, st.Close())
}

// needRoomFor refuses a state that the disk has no room for. A database is kept as it comes and then imported, which takes
// as much again.
func (c *catchUp) needRoomFor(in transport.Incoming) error {
	if c.space.store.total == 0 || in.Size < 0 {
		return nil
	}
	need := uint64(in.Size)
	if in.Form == transport.Database {
		need *= 2
	}
	usage, err := c.dir.fs.GetDiskUsage(c.dir.path())
	if err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", c.dir.path(), err)
	}
	if usage.AvailBytes < need+c.space.store.reserve {
		return fmt.Errorf("%w: %d bytes are free, a state of %d bytes needs %d and the reserve of %d",
			errNoSnapshotSpace, usage.AvailBytes, in.Size, need, c.space.store.reserve)
	}
	return nil
}

// stopped counts n bytes about to be written and says why the state in the making is to be given up.
func (c *catchUp) stopped(ctx context.Context, n int64) error {
	if room, err := c.space.admit(n, c.log); err != nil || !room {
		return errors.Join(err, errNoSnapshotSpace)
	}
	return ctx.Err()
}

// guardedBody is a body whose reader may be stopped. n is what was read.
type guardedBody struct {
	r       io.Reader
	n       int64
	stopped func(n int) error
}

// Read implements io.Reader.
func (b *guardedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	if stop := b.stopped(n); stop != nil {
		return n, stop
	}
	return n, err
}

// stepped notes that raft has been told of the state received last.
func (c *catchUp) stepped() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != nil {
		c.state.stepped = true
	}
}

// giveUp removes the state received last unless it is on its way into force.
func (c *catchUp) giveUp(ctx context.Context) error {
	c.mu.Lock()
	state := c.state
	stepped := state != nil && state.stepped
	c.mu.Unlock()
	if state == nil {
		return nil
	}
	if stepped {
		restoring, err := c.replica.Restoring(ctx)
		if err != nil {
			return err
		}
		if restoring == uint64(state.at.Index) {
			return errStillRestoring
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != state { // it came into force meanwhile
		return nil
	}
	c.state = nil
	c.log.Info("giving up a received state that raft did not want", "index", state.at.Index)
	return c.dir.fs.RemoveAll(c.dir.path(state.name))
}

// giveUpUnwanted removes a received state that raft was told of and has not taken.
func (c *catchUp) giveUpUnwanted(ctx context.Context) error {
	c.mu.Lock()
	there := c.state != nil && c.state.stepped
	c.mu.Unlock()
	if !there {
		return nil
	}
	if err := c.giveUp(ctx); err != nil && !errors.Is(err, errStillRestoring) && ctx.Err() == nil {
		return err
	}
	return nil
}

// Prepare implements replica.Snapshots.
func (c *catchUp) Prepare(snapshot *raftpb.Snapshot) error {
	state := c.received(snapshot)
	if state == nil {
		return errors.New("it was not received")
	}
	dir := c.dir.path(state.name)
	opened := new(openedState)
	var err error
	if opened.store, err = storage.Open(c.storeConfig(dir)); err != nil {
		return err
	}
	if err := opened.load(c.Server); err != nil {
		return errors.Join(err, opened.store.Close())
	}
	if got := opened.store.Applied(); got.Index != state.at.Index || got.Term != state.at.Term {
		return errors.Join(fmt.Errorf("%s holds the state at %d of term %d", dir, got.Index, got.Term), opened.store.Close())
	}
	state.opened = opened
	return nil
}

func (o *openedState) load(s *Server) (err error) {
	if o.keys, err = mvcc.Open(o.store, mvcc.Config{}); err != nil {
		return err
	}
	if o.leases, err = lease.Load(o.store, s.cfg.leaseTTLMin()); err != nil {
		return err
	}
	if o.auth, err = auth.Load(o.store); err != nil {
		return err
	}
	o.cluster, err = membership.Load(o.store, s.cfg.LearnersMax)
	return err
}

// received is the state that belongs to snapshot, nil if it is not there.
func (c *catchUp) received(snapshot *raftpb.Snapshot) *receivedState {
	c.mu.Lock()
	defer c.mu.Unlock()
	meta := snapshot.GetMetadata()
	if s := c.state; s != nil && uint64(s.at.Index) == meta.GetIndex() && uint64(s.at.Term) == meta.GetTerm() {
		return s
	}
	return nil
}

// Commit implements replica.Snapshots.
func (c *catchUp) Commit(snapshot *raftpb.Snapshot) error {
	state := c.received(snapshot)
	if state == nil || state.opened == nil {
		return errors.New("it was not prepared")
	}
	failpointApplyBeforeOpenSnapshot()
	if err := c.dir.putInForce(state.name); err != nil {
		return err
	}
	failpointApplyAfterOpenSnapshot()
	from, before := c.keys.Revision(), c.cluster.Members()
	next := state.opened
	c.auth.Suspend(next.auth)
	c.keys.Replace(next.keys) // and the store under it
	c.leases.Replace(next.leases)
	c.auth.Replace(next.auth)
	c.cluster.Replace(next.cluster)
	c.machine.Restart()
	c.hub.SetHead(c.keys.Revision())
	c.clock.stop() // whoever gets a state does not lead, and one elected since has not applied anything yet
	c.followReplacement(before)
	// Requests from before the state was on its way may be in it: their entries never come.
	c.waiters.settle(state.began, ErrTimeout)
	c.mu.Lock()
	c.state = nil
	c.mu.Unlock()
	c.counts.inForce.Add(1)
	poke(c.compacted)
	poke(c.flushable)
	c.log.Info("a received state is in force", "index", state.at.Index, "from-revision", int64(from), "revision", int64(c.keys.Revision()))
	return nil
}

// close lets go of a state that was prepared and has not come into force. If the log has recorded it, the next start puts it
// in force.
func (c *catchUp) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil || c.state.opened == nil {
		return nil
	}
	return c.state.opened.store.Close()
}

package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/apply"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/raftlog"
	"holdfast/storage"
)

// OfflineConfig names a member that does not run, and where to work with its state.
type OfflineConfig struct {
	FS vfs.FS // of all directories; nil is the operating system's
	// DataDir and WALDir are the member's. Nothing in them is changed.
	DataDir, WALDir string
	// Work is a directory for a copy of the store; it must not exist. Its parent must. If it is empty, what is made of the state
	// stays in memory: about as much as the log has behind the store.
	Work string
	// Link lets the copy share files with the original that neither ever writes to again.
	Link bool
	// Copied, if set, is told of the bytes of the store as they are copied.
	Copied func(bytes int64)
	Log    *slog.Logger
}

// LogState is what the raft log of a member says.
type LogState struct {
	Member    kv.MemberID
	ClusterID uint64
	// Last and LastTerm are those of the last entry. The log with the higher term, and of those with the same the longer one, has
	// all that the other has of what was ever committed (raft dissertation, section 3.6.1).
	Last, LastTerm uint64
	// Committed is up to where this member knows that entries are committed; others may be, too.
	Committed uint64
	// Term is the highest one that the member has heard of.
	Term uint64
}

// errRunning says that files belong to a member that runs.
var errRunning = fmt.Errorf("the member is running: stop it first (%w)", ErrInUse)

// Offline is the state of a member that does not run: its store as it was last made durable, and the entries that its log has
// behind that, which Apply carries out. One goroutine uses it.
type Offline struct {
	cfg  OfflineConfig
	dir  *dataDir
	lock io.Closer // keeps the member from starting; nil where it never did

	rec   raftlog.Recovered
	conf  *raftpb.ConfState // at applied
	state LogState

	applied uint64
	term    uint64 // of the entry at applied

	store   *storage.Store
	keys    *mvcc.Store
	leases  *lease.Set
	auth    *auth.Store
	cluster *membership.Cluster
	machine *apply.Machine
}

// ReadLog says how far the log of a member that does not run goes. It changes nothing.
func ReadLog(disk vfs.FS, dataDir, walDir string) (LogState, error) {
	if disk == nil {
		disk = vfs.Default
	}
	d, lock, err := holdOffline(disk, dataDir, walDir)
	if err != nil {
		return LogState{}, err
	}
	defer closeLock(lock)
	sum, err := raftlog.Verify(d.fs, d.wal)
	if err != nil {
		return LogState{}, fmt.Errorf("%s: %w", dataDir, err)
	}
	return logState(raftlog.Recovered{Metadata: sum.Metadata, State: sum.State, Snapshots: sum.Snapshots, First: sum.First, Last: sum.Last, Terms: sum.Terms}), nil
}

func logState(rec raftlog.Recovered) LogState {
	return LogState{
		Member: kv.MemberID(rec.Metadata.NodeID), ClusterID: rec.Metadata.ClusterID,
		Last: rec.Last, LastTerm: rec.TermAt(rec.Last), Committed: rec.State.Commit, Term: rec.State.Term,
	}
}

// holdOffline checks that a directory is that of a member of this format, and keeps the member from starting.
func holdOffline(disk vfs.FS, root, wal string) (*dataDir, io.Closer, error) {
	d := newDataDir(disk, root, wal)
	if err := d.refuseForeign(); err != nil {
		return nil, nil, err
	}
	found, err := d.hasFormat()
	if err == nil && !found {
		err = fmt.Errorf("%s is no data directory of a member: it has no member/FORMAT", root)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := disk.Open(d.path("LOCK"))
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("data directory %s: %w", root, err)
	}
	if err := share(f); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("data directory %s: %w", root, err), f.Close())
	}
	return d, f, nil
}

// closeLock lets the member start again. That a file that was only read cannot be closed changes nothing.
func closeLock(lock io.Closer) {
	if lock != nil {
		_ = lock.Close()
	}
}

// OpenOffline copies the store of a member that does not run, and reads its log. The member cannot start before Close.
func OpenOffline(cfg OfflineConfig) (*Offline, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	o := &Offline{cfg: cfg}
	var err error
	if o.dir, o.lock, err = holdOffline(cfg.FS, cfg.DataDir, cfg.WALDir); err != nil {
		return nil, err
	}
	if err := o.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("read the member in %s: %w", cfg.DataDir, err), o.Close())
	}
	return o, nil
}

func (o *Offline) open() error {
	name, _, _, err := o.dir.chooseStore()
	if err != nil {
		return err
	}
	cfg, err := o.workOn(o.dir.path(name))
	if err != nil {
		return err
	}
	if o.store, err = storage.Open(cfg); err != nil {
		return err
	}
	applied := o.store.Applied()
	if o.rec, err = raftlog.ReadAfter(o.cfg.FS, o.dir.wal, uint64(applied.Index)); err != nil {
		return err
	}
	if err := o.rec.Check(uint64(applied.Index)); err != nil {
		return err
	}
	if o.rec.Last == 0 {
		return errors.New("it was to join a cluster and holds nothing of it yet")
	}
	if o.conf, err = confStateOf(o.rec, applied.Index, applied.ConfState); err != nil {
		return err
	}
	o.applied, o.term, o.state = uint64(applied.Index), uint64(applied.Term), logState(o.rec)
	o.state.Committed = max(o.state.Committed, o.applied)
	return o.load()
}

// workOn makes a store, of the state of the member's own, that may be changed.
func (o *Offline) workOn(original string) (cfg storage.Config, err error) {
	cfg = storage.Config{FS: o.cfg.FS, Dir: o.cfg.Work, Log: o.cfg.Log}
	there := o.dir.has(original) // if not, the member crashed before it had one, and everything is in its log
	switch {
	case there && o.cfg.Work != "":
		return cfg, o.cfg.copyStore(original)
	case there:
		cfg.Dir, cfg.ManualCompactions = original, true
		cfg.FS, err = storage.Scratch(o.cfg.FS, original)
		return cfg, err
	case o.cfg.Work == "":
		cfg.FS, cfg.Dir = vfs.NewMem(), storeFirst
	}
	return cfg, storage.Create(cfg)
}

// load opens what lives in the store.
func (o *Offline) load() (err error) {
	if o.keys, err = mvcc.Open(o.store, mvcc.Config{}); err != nil {
		return err
	}
	if o.leases, err = lease.Load(o.store, offlineLeaseTTLMin); err != nil {
		return err
	}
	if o.auth, err = auth.Load(o.store); err != nil {
		return err
	}
	if o.cluster, err = membership.Load(o.store, offlineLearnersMax); err != nil {
		return err
	}
	o.machine = apply.New(apply.Config{
		Store: o.store, Keys: o.keys, Leases: o.leases, Auth: o.auth, Cluster: o.cluster,
		Publish: func([]kv.Change) {}, Watch: deafToLeases{}, Wanted: func(uint64) bool { return false },
	})
	return checkVersion(o.cluster.Version())
}

// What only a running member is told, and what an entry does may depend on: the shortest life of a lease by etcd's default election
// timeout, and no bound of learners.
const (
	offlineLeaseTTLMin = 2
	offlineLearnersMax = math.MaxInt
)

// deafToLeases hears what happens to leases where none ends by itself.
type deafToLeases struct{}

func (deafToLeases) Granted(lease.Lease)      {}
func (deafToLeases) Revoked(kv.LeaseID)       {}
func (deafToLeases) Checkpointed(lease.Lease) {}

// copyStore copies the files of a closed store. Tables and blobs never change, so they may be shared.
func (c OfflineConfig) copyStore(from string) error {
	disk := c.FS
	if err := disk.MkdirAll(c.Work, 0o700); err != nil {
		return err
	}
	names, err := disk.List(from)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "LOCK" {
			continue
		}
		put, path := vfs.Copy, disk.PathJoin(from, name)
		if c.Link && (strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")) {
			put = vfs.LinkOrCopy
		}
		if err := put(disk, path, disk.PathJoin(c.Work, name)); err != nil {
			return fmt.Errorf("copy the store: %w", err)
		}
		if c.Copied == nil {
			continue
		}
		info, err := disk.Stat(path)
		if err != nil {
			return fmt.Errorf("copy the store: %w", err)
		}
		c.Copied(info.Size())
	}
	return nil
}

// State is what the log says.
func (o *Offline) State() LogState { return o.state }

// Revision is that of the keys after what was applied so far.
func (o *Offline) Revision() kv.Revision { return o.keys.Revision() }

// Applied is the last entry that was applied so far.
func (o *Offline) Applied() uint64 { return o.applied }

// Cluster is the membership after what was applied so far.
func (o *Offline) Cluster() *membership.Cluster { return o.cluster }

// Keys are those after what was applied so far.
func (o *Offline) Keys() *mvcc.Store { return o.keys }

// Acknowledged is the last entry that the member may have answered for: what is known to be committed, and where it is the only
// voter everything that it has.
func (o *Offline) Acknowledged() uint64 {
	if voters := o.conf.GetVoters(); len(voters) == 1 && voters[0] == uint64(o.state.Member) {
		return o.state.Last
	}
	return o.state.Committed
}

// applyOfflineMax bounds how many entries are applied in one go.
const applyOfflineMax = 1000

// Apply carries out the entries of the log up to and including one, or all that there are.
func (o *Offline) Apply(upTo uint64) error {
	var run []apply.Entry
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		_, err := o.machine.Apply(run)
		run = run[:0]
		return err
	}
	for _, e := range o.rec.Entries {
		index := e.GetIndex()
		if index <= o.applied || index > upTo {
			continue
		}
		if e.GetType() == raftpb.EntryNormal {
			run = append(run, entryOf(e))
		}
		if e.GetType() != raftpb.EntryNormal || len(run) == applyOfflineMax {
			if err := flush(); err != nil {
				return err
			}
		}
		if e.GetType() != raftpb.EntryNormal {
			if err := o.reconfigure(e); err != nil {
				return err
			}
		}
		o.applied, o.term = index, e.GetTerm()
	}
	return flush()
}

// reconfigure carries out a configuration change.
func (o *Offline) reconfigure(e *raftpb.Entry) error {
	c := new(raftpb.ConfChange)
	if e.GetType() != raftpb.EntryConfChange {
		return fmt.Errorf("entry %d is of a kind that no member writes: %v", e.GetIndex(), e.GetType())
	}
	if err := proto.Unmarshal(e.GetData(), c); err != nil {
		return fmt.Errorf("read entry %d: %w", e.GetIndex(), err)
	}
	change, err := readChange(c)
	if err != nil {
		return err
	}
	carriedOut := &change
	if o.cluster.Check(change) != nil {
		carriedOut = nil
	} else {
		follow(o.conf, c)
	}
	data, err := proto.Marshal(o.conf)
	if err != nil {
		return fmt.Errorf("encode the raft configuration: %w", err)
	}
	return o.machine.ApplyConfChange(entryOf(e), carriedOut, data)
}

// follow changes a configuration as raft does.
func follow(conf *raftpb.ConfState, c *raftpb.ConfChange) {
	id := c.GetNodeId()
	if c.GetType() == raftpb.ConfChangeUpdateNode {
		return
	}
	is := func(other uint64) bool { return other == id }
	conf.Voters, conf.Learners = slices.DeleteFunc(conf.GetVoters(), is), slices.DeleteFunc(conf.GetLearners(), is)
	switch c.GetType() {
	case raftpb.ConfChangeAddNode:
		conf.Voters = append(conf.Voters, id)
	case raftpb.ConfChangeAddLearnerNode:
		conf.Learners = append(conf.Learners, id)
	}
	slices.Sort(conf.Voters)
	slices.Sort(conf.Learners)
}

// Close lets go of everything; the copy stays.
func (o *Offline) Close() error {
	var err error
	if o.store != nil {
		err = o.store.Close()
		o.store = nil
	}
	closeLock(o.lock)
	o.lock = nil
	return err
}

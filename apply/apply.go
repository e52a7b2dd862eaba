// Package apply is the replicated state machine: committed commands in, one atomic batch and their results out.
//
// Here the parts of the state meet: keys, leases, users and roles, membership and alarms. What a command does depends on nothing but the
// commands before it, so every member comes to the same state; size and quota may change an answer, never the state.
//
//	Errors   ErrKeyNotFound, ErrNoSpace, ErrCorrupt, and those of mvcc, lease, auth and membership
//	Source   etcd v3 API; DESIGN of the write path in ARCHITECTURE.md
//
// It reads no clock, starts no goroutine and draws no random number.
package apply

import (
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/storage"
)

// The reasons why a committed command changes nothing.
var (
	// ErrKeyNotFound answers a put that keeps the value or lease of a key which does not exist.
	ErrKeyNotFound = errors.New("key not found")
	// ErrNoSpace answers a command that needs space while an alarm says that there is none. An entry that was in the
	// log when the quota was reached is carried out and still answered so.
	ErrNoSpace = errors.New("no space")
	// ErrCorrupt answers every change of the keys while a member is known to be corrupt.
	ErrCorrupt = errors.New("corrupt cluster")
)

// Entry is a committed entry of the raft log. One without payload was put there by raft and moves only the index.
type Entry struct {
	Index   kv.Index
	Term    kv.Term
	Payload []byte
}

// Result is what became of one command. Where Err is nil, the field that fits the command is set.
type Result struct {
	// ID is that of the waiting request; 0 if nobody waits. Index is that of its entry.
	ID    uint64
	Index kv.Index
	Err   error
	// Full says that Err is ErrNoSpace because the command found the quota reached, not because an alarm stood.
	Full bool
	// Revision is the store's after the command.
	Revision kv.Revision

	Put         *kv.PutResult
	DeleteRange *kv.DeleteRangeResult
	Txn         *kv.TxnResult
	Lease       lease.Lease // of LeaseGrant
	Alarms      []membership.Alarm
}

// Leases is told of leases in the order in which the log makes and ends them. The leader's expiry loop listens; it may
// read clocks, which this package may not.
type Leases interface {
	Granted(l lease.Lease)
	Revoked(id kv.LeaseID)
	Checkpointed(l lease.Lease)
}

// Observer is told how the work goes. It may read clocks, which this package may not.
type Observer interface {
	// Applying begins a run, and Applied ends each of its commands with what became of it.
	Applying()
	Applied(payload []byte, err error)
	// Committing and Committed stand around the commit of the run's batch.
	Committing()
	Committed()
}

type noObserver struct{}

func (noObserver) Applying()             {}
func (noObserver) Applied([]byte, error) {}
func (noObserver) Committing()           {}
func (noObserver) Committed()            {}

// Config is what a machine is made of.
type Config struct {
	Store   *storage.Store
	Keys    *mvcc.Store
	Leases  *lease.Set
	Auth    *auth.Store
	Cluster *membership.Cluster
	// Quota bounds the encoded bytes of all revisions kept; 0 or less is no bound. It only changes answers.
	Quota int64
	// Publish receives the changes of each run right after they have become visible to readers.
	Publish func([]kv.Change)
	// Watch receives what happens to leases.
	Watch Leases
	// Tokens receives what happens to logins; nil where nobody logs in.
	Tokens Tokens
	// Observer is told how the work goes; nil tells nobody.
	Observer Observer
	// Wanted tells whether a request waits at this member. What only the answer needs is skipped where none does.
	Wanted func(id uint64) bool
	// WantsPrev tells whether who receives the changes asks what was there before them; nil says yes.
	WantsPrev func() bool
}

// Machine applies committed entries. All its methods belong to one goroutine.
type Machine struct {
	Config
	index     kv.Index
	confState []byte
	wants     []kv.Access // reused
}

// New makes a machine that goes on after the entry the store has applied last.
func New(cfg Config) *Machine {
	applied := cfg.Store.Applied()
	if cfg.Tokens == nil {
		cfg.Tokens = noTokens{}
	}
	if cfg.Observer == nil {
		cfg.Observer = noObserver{}
	}
	return &Machine{Config: cfg, index: applied.Index, confState: applied.ConfState}
}

// Restart makes the machine go on after the entry that the store has applied last: another store has taken the place of the
// one there was. Who has logged in or out in between is not in it, so all logins are over.
func (m *Machine) Restart() {
	applied := m.Store.Applied()
	m.index, m.confState = applied.Index, applied.ConfState
	m.Tokens.Switched(m.Auth.State().Enabled())
}

// runBytesMax ends a run: its batch and overlay stay in memory until it commits, and readers see nothing of it.
const runBytesMax = 4 << 20

// Apply carries out entries in their order and returns a result for each that has a payload. What they change and the
// index reached become visible, and later durable, in few batches: a crash leaves the store exactly at an entry
// boundary. After an error the machine must not be used again.
func (m *Machine) Apply(entries []Entry) ([]Result, error) {
	results := make([]Result, 0, len(entries))
	for len(entries) > 0 {
		n, err := m.run(entries, &results)
		if err != nil {
			return nil, err
		}
		entries = entries[n:]
	}
	return results, nil
}

// run applies entries into one batch until it is large enough, and returns how many it took.
func (m *Machine) run(entries []Entry, results *[]Result) (int, error) {
	b := m.Store.NewBatch()
	defer b.Close()
	r := run{Machine: m, batch: b, keys: m.Keys.Begin(b)}
	if m.WantsPrev != nil && !m.WantsPrev() {
		r.keys.Bare()
	}
	m.Observer.Applying()
	n := 0
	for ; n < len(entries) && (n == 0 || r.keys.Len() < runBytesMax) && !r.permits; n++ {
		e := &entries[n]
		m.follow(e.Index)
		if len(e.Payload) == 0 {
			continue
		}
		command, err := kv.DecodeCommand(e.Payload)
		if err != nil {
			return 0, fmt.Errorf("apply entry %d: %w", e.Index, err)
		}
		failpointBeforeApplyOneEntryNormal()
		result := r.command(&command)
		m.Observer.Applied(e.Payload, result.Err)
		result.ID, result.Index = command.ID, e.Index
		*results = append(*results, result)
	}
	last := &entries[n-1]
	failpointCommitBeforePreCommitHook()
	b.SetApplied(last.Index, last.Term, m.confState)
	failpointCommitAfterPreCommitHook()
	if err := r.commit(); err != nil {
		return 0, fmt.Errorf("commit up to entry %d: %w", last.Index, err)
	}
	for _, tell := range r.told {
		tell()
	}
	return n, nil
}

// follow asks that entries come without a gap.
func (m *Machine) follow(index kv.Index) {
	if index != m.index+1 {
		panic(fmt.Sprintf("apply: entry %d after %d", index, m.index))
	}
	m.index = index
}

// commit makes the run's batch visible: first to readers of keys, then to watchers.
func (r *run) commit() error {
	defer r.keys.Drop()
	if err := r.keys.Seal(); err != nil {
		return err
	}
	if r.compacts {
		failpointCompactBeforeCommitScheduledCompact()
	}
	r.Observer.Committing()
	if err := r.batch.Commit(); err != nil {
		return err
	}
	r.Observer.Committed()
	if r.compacts {
		failpointCompactAfterCommitScheduledCompact()
	}
	changes := r.keys.Changes()
	failpointBeforeWritebackBuf()
	r.keys.Publish()
	failpointAfterWritebackBuf()
	r.Auth.Publish()
	if len(changes) > 0 {
		r.Publish(changes)
	}
	return nil
}

// ApplyConfChange carries out a configuration change whose entry is e: confState is the configuration that raft made of
// it. A change that Cluster.Check refuses is passed as nil and moves only the index.
func (m *Machine) ApplyConfChange(e Entry, change *membership.Change, confState []byte) error {
	failpointBeforeApplyOneConfChange()
	m.follow(e.Index)
	b := m.Store.NewBatch()
	defer b.Close()
	if change != nil {
		m.Cluster.Apply(b, *change)
	}
	m.confState = confState
	b.SetApplied(e.Index, e.Term, confState)
	if err := b.Commit(); err != nil {
		return fmt.Errorf("commit configuration change %d: %w", e.Index, err)
	}
	return nil
}

// run is a bounded run of commands into one batch.
type run struct {
	*Machine
	batch *storage.Batch
	keys  *mvcc.Run
	// told is what the listeners to leases and logins hear once the batch is committed.
	told []func()
	// permits tells that users, roles or permissions have changed, which ends the run. Their publication stands in the order of
	// the log then: who reads by a new permission sees what was deleted before it was given, and what is written after one was
	// taken is published after that.
	permits bool
	// compacts tells that a compaction is in the batch.
	compacts bool
}

func (r *run) command(c *kv.Command) Result {
	if err := r.refused(c); err != nil {
		return Result{Err: err, Revision: r.keys.Revision()}
	}
	if err := r.authorize(c); err != nil {
		return Result{Err: err, Revision: r.keys.Revision()}
	}
	over := !r.hasRoomFor(c)
	result := r.execute(c)
	if over && result.Err == nil {
		return Result{Err: ErrNoSpace, Full: true, Revision: result.Revision}
	}
	if result.Revision == 0 {
		result.Revision = r.keys.Revision()
	}
	return result
}

func (r *run) execute(c *kv.Command) Result {
	switch {
	case c.Put != nil:
		return r.put(c)
	case c.DeleteRange != nil:
		return r.deleteRange(c)
	case c.Txn != nil:
		return r.txn(c)
	case c.Compact != nil:
		return r.compact(c.Compact.Revision)
	case c.LeaseGrant != nil:
		return r.leaseGrant(c.LeaseGrant)
	case c.LeaseRevoke != nil:
		return r.leaseRevoke(c.LeaseRevoke.ID)
	}
	return r.cold(c)
}

func (r *run) compact(rev kv.Revision) Result {
	err := r.keys.Compact(rev)
	r.compacts = r.compacts || err == nil
	return Result{Err: err}
}

// cold carries out the rare commands. One that this version does not know would make members differ if it were passed
// over, so it ends the member.
func (r *run) cold(c *kv.Command) Result {
	if is, err := r.manage(c); is {
		return Result{Err: err}
	}
	switch q := c.Cold; {
	case q.LeaseCheckpoint != nil:
		for _, c := range q.LeaseCheckpoint.Checkpoints {
			r.leaseCheckpoint(kv.LeaseID(c.ID), c.Remaining_TTL)
		}
	case q.Alarm != nil:
		return Result{Alarms: r.alarm(q.Alarm)}
	case q.ClusterVersionSet != nil:
		r.Cluster.SetVersion(r.batch, q.ClusterVersionSet.Ver)
	case q.ClusterMemberAttrSet != nil:
		set := q.ClusterMemberAttrSet
		r.Cluster.SetAttributes(r.batch, kv.MemberID(set.Member_ID), set.MemberAttributes.GetName(), set.MemberAttributes.GetClientUrls())
	case q.DowngradeInfoSet != nil:
		d := membership.Downgrade{Enabled: q.DowngradeInfoSet.Enabled}
		if d.Enabled { // as etcd, which forgets the target of one that is over
			d.TargetVersion = q.DowngradeInfoSet.Ver
		}
		r.Cluster.SetDowngrade(r.batch, d)
	case q.Authenticate != nil:
		return Result{Err: r.authenticate(q.Authenticate)}
	case q.Range != nil, q.DowngradeVersionTest != nil, asksAuth(q):
		// None changes anything; another member may have put them into the log.
	default:
		panic(fmt.Sprintf("apply: a command this version cannot carry out, with the fields %s", fieldsOf(q)))
	}
	return Result{}
}

// fieldsOf names what is set in q; its values may be secrets.
func fieldsOf(q *pb.InternalRaftRequest) []string {
	var names []string
	q.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		names = append(names, string(f.Name()))
		return true
	})
	slices.Sort(names)
	return names
}

func (r *run) alarm(q *pb.AlarmRequest) []membership.Alarm {
	a := membership.Alarm{Member: kv.MemberID(q.MemberID), Type: membership.AlarmType(q.Alarm)}
	switch q.Action {
	case pb.AlarmRequest_GET:
		return r.Cluster.Alarms(a.Type)
	case pb.AlarmRequest_ACTIVATE:
		if a.Type == membership.AlarmNone {
			return nil
		}
		r.Cluster.Raise(r.batch, a)
		return []membership.Alarm{a}
	case pb.AlarmRequest_DEACTIVATE:
		if r.Cluster.Disarm(r.batch, a) {
			return []membership.Alarm{a}
		}
	}
	return nil
}

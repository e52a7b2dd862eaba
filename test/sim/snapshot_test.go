package sim

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/server"
	"holdfast/storage"
	"holdfast/util/durable"
)

// Where a member keeps its stores, and for a moment one that it sends.
const (
	dataDir = "data"
	sentDir = "sent"
)

// stores are the directories of a member's stores.
func (d *disk) stores() server.Stores {
	return server.StoresIn(halves{FS: d.storeFS, wal: d.walFS}, dataDir, walDir)
}

// inForce is the directory of the store in force on a disk that is whole.
func inForce(mem *vfs.MemFS) string {
	dir, err := server.StoresIn(mem, dataDir, walDir).InForce()
	if err != nil {
		panic(err)
	}
	return dir
}

// halves is a file system of which the raft log, which is only read here, lies elsewhere.
type halves struct {
	vfs.FS
	wal vfs.FS
}

func (h halves) of(name string) vfs.FS {
	if name == walDir || strings.HasPrefix(name, walDir+"/") {
		return h.wal
	}
	return h.FS
}

// Open implements vfs.FS.
func (h halves) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return h.of(name).Open(name, opts...)
}

// List implements vfs.FS.
func (h halves) List(dir string) ([]string, error) { return h.of(dir).List(dir) }

// Stat implements vfs.FS.
func (h halves) Stat(name string) (vfs.FileInfo, error) { return h.of(name).Stat(name) }

// settleStore says where the store is, after what a crash has interrupted is complete.
func (l *life) settleStore() (dir string, err error) {
	before, err := l.disk.stores().InForce()
	if err != nil {
		return "", err
	}
	if err := l.disk.storeFS.MkdirAll(vfs.Default.PathDir(before), 0o700); err != nil {
		return "", err
	}
	for _, dir := range []string{"", dataDir} {
		if err := durable.Names(l.disk.storeFS, dir); err != nil {
			return "", err
		}
	}
	dir, err = l.disk.stores().Settle(l.w.logger)
	if err == nil && dir != before {
		l.w.note("%s completes the received state in %s", l.member, dir)
		l.w.counts["snapshots completed at start"]++
	}
	return dir, err
}

// sendSnapshot attaches the member's present state to a message that names an older one.
func (t transportOf) sendSnapshot(m *raftpb.Message) {
	t.w.after(0, func() {
		if t.ended {
			return
		}
		err := t.attach(m)
		t.settle()
		if t.ended {
			return
		}
		if err != nil {
			t.w.note("%s could not make a snapshot: %v", t.member, err)
			t.replica.ReportSnapshot(m.GetTo(), false)
			return
		}
		t.w.counts["snapshots sent"]++
		t.w.net.send(t.member, m)
	})
}

func (t transportOf) attach(m *raftpb.Message) error {
	name := fmt.Sprintf("%s%d", sentDir, t.w.moment())
	if err := t.store.Checkpoint(name); err != nil {
		return err
	}
	files := vfs.NewMem()
	if _, err := vfs.Clone(t.disk.store, files, name, sentDir); err != nil {
		return err
	}
	if err := t.disk.store.RemoveAll(name); err != nil {
		return err
	}
	applied, err := t.store.Durable()
	if err != nil {
		return err
	}
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(applied.ConfState, conf); err != nil {
		return err
	}
	at := m.GetSnapshot().GetMetadata().GetIndex()
	if uint64(applied.Index) < at {
		return fmt.Errorf("raft wants the state at %d, applied is %d", at, applied.Index)
	}
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(applied.Index)), Term: new(uint64(applied.Term)), ConfState: conf,
	}}
	t.w.judge.sent[uint64(applied.Index)] = files
	t.w.note("%s sends its state at %d to m%d", t.member, applied.Index, m.GetTo())
	return nil
}

// receiveSnapshot takes in a message whose state has arrived in full.
func (l *life) receiveSnapshot(from *member, m *raftpb.Message) {
	if from.life != nil {
		from.life.replica.ReportSnapshot(m.GetTo(), true)
		from.life.poke(&from.life.loop)
	}
	l.step(m)
}

// incoming is a state on its way into force.
type incoming struct {
	index   uint64
	store   *storage.Store
	keys    *mvcc.Store
	leases  *lease.Set
	auth    *auth.Store
	cluster *membership.Cluster
}

// snapshotsOf replaces the state machine's state.
type snapshotsOf struct{ *life }

// Prepare implements replica.Snapshots.
func (s snapshotsOf) Prepare(snapshot *raftpb.Snapshot) error {
	s.busy = true
	index := snapshot.GetMetadata().GetIndex()
	fs := s.disk.storeFS
	unfinished, whole := s.disk.stores().Received(index)
	if err := errors.Join(fs.RemoveAll(unfinished), fs.RemoveAll(whole)); err != nil {
		return err
	}
	if _, err := vfs.Clone(s.w.judge.sent[index], fs, sentDir, unfinished, vfs.CloneSync); err != nil {
		return err
	}
	if err := fs.Rename(unfinished, whole); err != nil {
		return err
	}
	if err := durable.Names(fs, fs.PathDir(whole)); err != nil {
		return err
	}
	s.incoming = &incoming{index: index}
	return s.incoming.open(s.life, whole)
}

func (in *incoming) open(l *life, dir string) (err error) {
	if in.store, err = storage.Open(l.storeConfig(dir)); err != nil {
		return err
	}
	if in.keys, err = mvcc.Open(in.store, mvcc.Config{}); err != nil {
		return err
	}
	if in.leases, err = lease.Load(in.store, leaseTTLMin); err != nil {
		return err
	}
	if in.auth, err = auth.Load(in.store); err != nil {
		return err
	}
	in.cluster, err = membership.Load(in.store, learnersMax)
	return err
}

// Commit implements replica.Snapshots.
func (s snapshotsOf) Commit(snapshot *raftpb.Snapshot) error {
	s.busy = true
	index := snapshot.GetMetadata().GetIndex()
	next := s.incoming
	if next == nil || next.index != index {
		return fmt.Errorf("the state at %d was never prepared", index)
	}
	if err := s.disk.stores().PutInForce(index); err != nil {
		return err
	}
	s.incoming = nil
	if got := uint64(next.store.Applied().Index); got != index {
		return fmt.Errorf("the state received is at %d, not %d", got, index)
	}
	old := s.store.Dir()
	s.keys.Replace(next.keys)
	s.leases.Replace(next.leases)
	if !s.w.slips.keepsUsers {
		s.auth.Replace(next.auth)
	}
	s.cluster.Replace(next.cluster)
	s.machine.Restart()
	s.hub.SetHead(s.keys.Revision())
	s.led = 0
	s.leaseClock.Stop()
	s.awaitRemoval(old)
	s.appliedIndex = index
	s.released, s.releasing = kv.Index(index), 0
	s.w.counts["snapshots in force"]++
	s.w.note("%s goes on from the state at %d", s.member, index)
	if s.cluster.Removed(kv.MemberID(s.id)) {
		s.leave()
	}
	return nil
}

// awaitRemoval waits until a store that was replaced has gone. It goes by itself, on a goroutine of its own: waited for, that
// has no influence on what comes next.
func (l *life) awaitRemoval(dir string) {
	for began := time.Now(); ; time.Sleep(20 * time.Microsecond) {
		if _, err := l.disk.store.Stat(dir); err != nil {
			return
		}
		if time.Since(began) > 10*time.Second {
			l.w.fail("%s: the store in %s was replaced and stays", l.member, dir)
		}
	}
}

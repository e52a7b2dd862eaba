package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/raftlog"
	"holdfast/storage"
)

// A received state lies beside the one in force until the log has recorded it. Its name holds its index.
const (
	receivedDir = "received"
	sentDir     = "sent"
)

// incoming is a state on its way into force.
type incoming struct{ index uint64 }

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
	if _, err := vfs.Clone(t.disk.store, files, name, receivedDir); err != nil {
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

// snapshotsOf replaces the state machine's state.
type snapshotsOf struct{ *life }

// Prepare implements replica.Snapshots.
func (s snapshotsOf) Prepare(snapshot *raftpb.Snapshot) error {
	s.busy = true
	index := snapshot.GetMetadata().GetIndex()
	if err := s.disk.storeFS.RemoveAll(receivedDir); err != nil {
		return err
	}
	if _, err := vfs.Clone(s.w.judge.sent[index], s.disk.storeFS, receivedDir, receivedDir, vfs.CloneSync); err != nil {
		return err
	}
	s.incoming = &incoming{index: index}
	return syncDir(s.disk.storeFS, "")
}

// Commit implements replica.Snapshots.
func (s snapshotsOf) Commit(snapshot *raftpb.Snapshot) error {
	s.busy = true
	index := snapshot.GetMetadata().GetIndex()
	if s.incoming == nil || s.incoming.index != index {
		return fmt.Errorf("the state at %d was never prepared", index)
	}
	s.incoming = nil
	if err := s.store.Close(); err != nil {
		return err
	}
	if err := s.replaceStore(); err != nil {
		return err
	}
	if err := s.openStore(); err != nil {
		return err
	}
	if got := uint64(s.store.Applied().Index); got != index {
		return fmt.Errorf("the state received is at %d, not %d", got, index)
	}
	s.appliedIndex = index
	s.released, s.releasing = kv.Index(index), 0
	s.w.counts["snapshots in force"]++
	s.w.note("%s goes on from the state at %d", s.member, index)
	return nil
}

// replaceStore puts the received state into the place of the store. A crash in between is completed at the next start.
func (l *life) replaceStore() error {
	fs := l.disk.storeFS
	if err := fs.RemoveAll(storeDir); err != nil {
		return err
	}
	if err := syncDir(fs, ""); err != nil {
		return err
	}
	if err := fs.Rename(receivedDir, storeDir); err != nil {
		return err
	}
	return syncDir(fs, "")
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// completeSnapshot finishes what a crash interrupted: a received state that the log has recorded goes into force, any other
// one is dropped.
func (l *life) completeSnapshot() error {
	fs := l.disk.storeFS
	if _, err := fs.Stat(receivedDir); err != nil {
		return nil
	}
	if _, err := fs.Stat(storeDir); err != nil {
		l.w.note("%s completes a received state", l.member)
		return l.replaceStore()
	}
	index, err := l.receivedIndex()
	if err != nil {
		l.w.note("%s drops half of a received state: %v", l.member, err)
		return fs.RemoveAll(receivedDir)
	}
	recorded, err := l.isRecorded(index)
	if err != nil || !recorded {
		l.w.note("%s drops the received state at %d", l.member, index)
		return errors.Join(err, fs.RemoveAll(receivedDir))
	}
	l.w.note("%s completes the received state at %d", l.member, index)
	l.w.counts["snapshots completed at start"]++
	return l.replaceStore()
}

// receivedIndex opens the received state to see where it stands.
func (l *life) receivedIndex() (uint64, error) {
	st, err := storage.Open(storage.Config{FS: everything(l.disk.store), Dir: receivedDir, ManualCompactions: true, Log: l.w.logger})
	if err != nil {
		return 0, err
	}
	return uint64(st.Applied().Index), st.Close()
}

// isRecorded tells whether the raft log has a snapshot record at index.
func (l *life) isRecorded(index uint64) (bool, error) {
	cfg := raftlog.Config{FS: everything(l.disk.wal), Dir: walDir, Log: l.w.logger, SegmentBytes: segmentBytes}
	if found, err := raftlog.Exists(cfg.FS, walDir); err != nil || !found {
		return false, err
	}
	log, rec, err := raftlog.Open(cfg)
	if err != nil {
		return false, err
	}
	recorded := slices.ContainsFunc(rec.Snapshots, func(r raftlog.SnapshotRecord) bool { return r.Index == index })
	return recorded, log.Close()
}

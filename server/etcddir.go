package server

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/raftlog"
	"holdfast/storage"
)

// etcdDir is an etcd's data directory that nobody runs:
//
//	member/snap/db                       the state at some entry, a database
//	member/snap/<index, hex>.snap.db     a state received from another member that has not replaced it yet
//	member/wal/                          the raft log; elsewhere if the configuration says so
type etcdDir struct {
	fs        vfs.FS
	root      string
	snap, wal string
}

func newEtcdDir(disk vfs.FS, root, wal string) etcdDir {
	e := etcdDir{fs: disk, root: root, snap: disk.PathJoin(root, "member", "snap"), wal: wal}
	if e.wal == "" {
		e.wal = disk.PathJoin(root, "member", "wal")
	}
	return e
}

// etcdState is what an etcd's directory holds: a database, and the entry that it is the state of. The log goes on behind it.
type etcdState struct {
	db  *etcdfile.Database
	at  storage.Applied
	log raftlog.Summary
}

// open finds the state that etcd would start from. The caller closes the database.
func (e etcdDir) open() (etcdState, error) {
	sum, err := raftlog.Verify(e.fs, e.wal)
	if err != nil {
		return etcdState{}, fmt.Errorf("read the raft log of the etcd in %s: %w", e.root, err)
	}
	s := etcdState{log: sum}
	if err := s.openAt(e, e.fs.PathJoin(e.snap, "db")); err != nil {
		return etcdState{}, err
	}
	var recorded kv.Index
	if n := len(sum.Snapshots); n > 0 {
		recorded = kv.Index(sum.Snapshots[n-1].Index)
	}
	if s.at.Index < recorded { // etcd stopped before it put a received state in the place of its own
		if err := s.db.Close(); err != nil {
			return etcdState{}, err
		}
		if err := s.openAt(e, e.fs.PathJoin(e.snap, fmt.Sprintf("%016x.snap.db", uint64(recorded)))); err != nil {
			return etcdState{}, fmt.Errorf("the raft log goes on from entry %d, which member/snap/db has not reached: %w", recorded, err)
		}
	}
	rec := raftlog.Recovered{First: sum.First, Last: sum.Last}
	if err := rec.Check(uint64(s.at.Index)); err != nil {
		return etcdState{}, errors.Join(err, s.db.Close())
	}
	if err := e.readable(s.at.Index); err != nil {
		return etcdState{}, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// readable asks that what the log has behind the database can be carried out: a member that finds out later cannot go back.
func (e etcdDir) readable(applied kv.Index) error {
	rec, err := raftlog.ReadAfter(e.fs, e.wal, uint64(applied))
	if err != nil {
		return err
	}
	for _, entry := range rec.Entries {
		if entry.GetType() != raftpb.EntryNormal || len(entry.GetData()) == 0 || entry.GetIndex() <= uint64(applied) {
			continue
		}
		if _, err := kv.DecodeCommand(entry.GetData()); err != nil {
			return fmt.Errorf("entry %d of the raft log of the etcd in %s: %w", entry.GetIndex(), e.root, err)
		}
	}
	return nil
}

// openAt opens one of the databases and reads what entry it is the state of.
func (s *etcdState) openAt(e etcdDir, path string) (err error) {
	if s.db, err = etcdfile.Open(e.fs, path); err != nil {
		return err
	}
	if s.at, err = appliedIn(s.db); err != nil {
		return errors.Join(fmt.Errorf("read %s: %w", path, err), s.db.Close())
	}
	return nil
}

// appliedIn is the entry that a database is the state of. As in etcd, raft's configuration there is that of its members: what it
// stores for it is older after a restore.
func appliedIn(db *etcdfile.Database) (storage.Applied, error) {
	meta, err := db.Meta()
	if err != nil {
		return storage.Applied{}, err
	}
	var members []etcdfile.Member
	for m, err := range db.Members() {
		if err != nil {
			return storage.Applied{}, err
		}
		members = append(members, m)
	}
	conf, err := proto.Marshal(confStateFor(members))
	return storage.Applied{Index: meta.Applied, Term: meta.Term, ConfState: conf}, err
}

// confStateFor is raft's configuration of these members.
func confStateFor(members []etcdfile.Member) *raftpb.ConfState {
	conf := new(raftpb.ConfState)
	for _, m := range members {
		if m.IsLearner {
			conf.Learners = append(conf.Learners, uint64(m.ID))
		} else {
			conf.Voters = append(conf.Voters, uint64(m.ID))
		}
	}
	slices.Sort(conf.Voters)
	slices.Sort(conf.Learners)
	return conf
}

// untouched tells whether the directory is as `snapshot restore` made it: the log holds the founding of a cluster, whose state the
// database is, and no election. No etcd has run on it, and none needs it more than we do.
func (e etcdDir) untouched() bool {
	sum, err := raftlog.Verify(e.fs, e.wal)
	if err != nil {
		return false // what is wrong with it is told by whoever opens it
	}
	n := len(sum.Snapshots)
	return n > 0 && sum.Snapshots[n-1].Index == sum.Last && sum.State.Term == 1 && sum.First == 1 && sum.Last > 0
}

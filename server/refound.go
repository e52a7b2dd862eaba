package server

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
	"holdfast/util/durable"
)

// Refounding says what becomes of a state: the data directory of a member of a new cluster.
type Refounding struct {
	// DataDir must not exist. WALDir moves the raft log elsewhere; empty leaves it in DataDir.
	DataDir, WALDir string
	// Founders are the members of the new cluster, and Self is the id of the one whose directory this is. Where others are made
	// from the same state with the same founders, they form one cluster.
	Founders []membership.Member
	Self     kv.MemberID
	// Bump is added to the revision, and everything before is compacted: nothing that was ever seen in the old cluster comes again with
	// another meaning, and who watches learns that it has to begin anew.
	Bump uint64
}

// unfinishedDir is where a data directory is put together before it gets its name.
func unfinishedDir(dataDir string) string { return dataDir + ".part" }

// WorkFor prepares the place in which a directory is put together: what it returns is for OfflineConfig.Work.
func WorkFor(disk vfs.FS, r Refounding) (work string, err error) {
	fs := cmp.Or(disk, vfs.Default)
	target, part := newDataDir(fs, r.DataDir, r.WALDir), newDataDir(fs, unfinishedDir(r.DataDir), "")
	if target.has(r.DataDir) {
		return "", fmt.Errorf("%s is there already: choose a directory that is new", r.DataDir)
	}
	switch found, err := raftlog.Exists(fs, target.wal); {
	case err != nil:
		return "", err
	case found:
		return "", fmt.Errorf("there is a raft log in %s already: choose a directory that is new", target.wal)
	}
	if err := fs.RemoveAll(part.root); err != nil {
		return "", fmt.Errorf("remove what an earlier try left: %w", err)
	}
	if err := fs.MkdirAll(part.path(), 0o700); err != nil {
		return "", fmt.Errorf("make a data directory: %w", err)
	}
	if err := part.writeFormat(); err != nil {
		return "", err
	}
	return part.path(storeFirst), nil
}

// Refound makes of a state, as far as it was applied, the data directory of a member of a new cluster. It must work where WorkFor says.
// The directory gets its name last, when everything in it is durable. The state is used up.
//
// The new log has no entries: it begins behind the state, as that of a member does that was sent one. So whoever joins later is
// sent the state, too. Index and term go on where the old log ended.
func (o *Offline) Refound(r Refounding) error {
	part := newDataDir(o.cfg.FS, unfinishedDir(r.DataDir), "")
	if o.cfg.Work != part.path(storeFirst) {
		panic(fmt.Sprintf("server: the state is in %s, the directory to be made in %s", o.cfg.Work, part.root))
	}
	at := raftlog.SnapshotRecord{Index: o.applied + 1, Term: max(o.state.Term, o.state.LastTerm) + 1, ConfState: votersOf(r.Founders)}
	if err := o.rewrite(r, at); err != nil {
		return fmt.Errorf("write the new membership: %w", err)
	}
	if err := o.Close(); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	if err := o.newLog(part, r, at); err != nil {
		return err
	}
	for _, dir := range []string{part.path(), part.root} {
		if err := durable.Names(o.cfg.FS, dir); err != nil {
			return err
		}
	}
	if err := o.cfg.FS.Rename(part.root, r.DataDir); err != nil {
		return fmt.Errorf("give the data directory its name: %w", err)
	}
	return durable.Names(o.cfg.FS, o.cfg.FS.PathDir(r.DataDir))
}

func votersOf(founders []membership.Member) *raftpb.ConfState {
	conf := new(raftpb.ConfState)
	for _, m := range founders {
		conf.Voters = append(conf.Voters, uint64(m.ID))
	}
	slices.Sort(conf.Voters)
	return conf
}

// rewrite puts membership, revision and place into the store, durably.
func (o *Offline) rewrite(r Refounding, at raftlog.SnapshotRecord) error {
	conf, err := proto.Marshal(at.ConfState)
	if err != nil {
		return err
	}
	b := o.store.NewBatch()
	defer b.Close()
	o.cluster.Refound(b, r.Founders)
	if r.Bump > 0 {
		now := o.keys.Revision()
		if r.Bump > uint64(math.MaxInt64-now)/2 { // what is left is for the life of the new cluster
			return fmt.Errorf("revision %s cannot be raised by %d: too little would be left", now, r.Bump)
		}
		if err := o.keys.Raise(b, now+kv.Revision(r.Bump)); err != nil {
			return err
		}
	}
	b.SetApplied(kv.Index(at.Index), kv.Term(at.Term), conf)
	if err := b.Commit(); err != nil {
		return err
	}
	return o.store.Flush()
}

// newLog makes a log that begins behind the state.
func (o *Offline) newLog(part *dataDir, r Refounding, at raftlog.SnapshotRecord) error {
	if r.WALDir != "" {
		part.wal = r.WALDir
	}
	space, err := newSpaceGuard(part.fs, part.path(), part.wal)
	if err != nil {
		return err
	}
	l, err := raftlog.Create(
		raftlog.Config{FS: part.fs, Dir: part.wal, Log: o.cfg.Log, SegmentBytes: space.segmentBytes()},
		raftlog.Metadata{NodeID: uint64(r.Self), ClusterID: clusterOf(r.Founders)},
		raftlog.Save{Snapshot: &at, State: raftlog.HardState{Term: at.Term, Commit: at.Index}})
	if err != nil {
		return err
	}
	return l.Close()
}

package server

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
	"holdfast/util/durable"
)

// Restore makes the data directory of a founding member of a new cluster that begins with what a snapshot holds. It is in
// etcd's files, as etcd's own tool makes it: etcd starts from it, and so do we, by taking it over.
type Restore struct {
	FS vfs.FS // nil is the operating system's
	// Snapshot is what the keys, leases, users and alarms come from; its members are left out.
	Snapshot *etcdfile.Database
	// DataDir and WALDir must be empty. An empty WALDir is the usual place.
	DataDir, WALDir string
	// Founders are the members of the new cluster; Name is this one's.
	Founders []membership.Member
	Name     string
	// Bump raises the revision by so much and marks all below as compacted, so that nobody takes a new revision for an old one.
	// 0 leaves the revision where it was.
	Bump kv.Revision
	// Imported, if set, hears of the bytes of rows as they are written.
	Imported func(bytes int64)
	Log      *slog.Logger

	segmentBytes int64 // of the raft log; 0 is etcd's size
}

// Run makes the directory. The revisions are those of the snapshot and of the restored store.
func (r Restore) Run() (was, is kv.Revision, err error) {
	if r.FS == nil {
		r.FS = vfs.Default
	}
	if err := mustBeEmpty(r.FS, r.DataDir, r.WALDir); err != nil {
		return 0, 0, err
	}
	dir := newEtcdDir(r.FS, r.DataDir, r.WALDir)
	if was, is, err = r.make(dir); err != nil {
		return 0, 0, errors.Join(err, dir.remove())
	}
	return was, is, nil
}

func (r Restore) make(dir etcdDir) (was, is kv.Revision, err error) {
	src, err := newRestoredSource(r)
	if err != nil {
		return 0, 0, err
	}
	if r.Bump > 0 {
		r.Log.Info("bumping latest revision", "latest-revision", int64(src.was), "bump-amount", int64(r.Bump), "new-latest-revision", int64(src.is))
		r.Log.Info("marking revision compacted", "revision", int64(src.is))
	}
	if err := dir.writeDatabase(src); err != nil {
		return 0, 0, err
	}
	record, err := r.foundLog(dir.wal)
	if err != nil {
		return 0, 0, err
	}
	for _, m := range src.members {
		r.Log.Info("added member", "cluster-id", fmt.Sprintf("%x", src.clusterID()), "local-member-id", "0", "added-peer-id", m.ID.String(),
			"added-peer-peer-urls", m.PeerURLs, "added-peer-is-learner", false)
	}
	return src.was, src.is, dir.writeSnap(src, record)
}

// remove takes away what was begun.
func (e etcdDir) remove() error {
	return errors.Join(e.fs.RemoveAll(e.snap), e.fs.RemoveAll(e.wal))
}

// foundLog writes the raft log that begins with the founding of the cluster, and names the state after it.
func (r Restore) foundLog(wal string) (raftlog.SnapshotRecord, error) {
	entries, err := foundingEntries(r.Founders)
	if err != nil {
		return raftlog.SnapshotRecord{}, err
	}
	conf, err := foundingConfState(entries)
	if err != nil {
		return raftlog.SnapshotRecord{}, err
	}
	at := slices.IndexFunc(r.Founders, func(m membership.Member) bool { return m.Name == r.Name })
	if at < 0 {
		return raftlog.SnapshotRecord{}, fmt.Errorf("no founder has the name %q", r.Name)
	}
	cfg := Config{Founders: r.Founders}
	meta := raftlog.Metadata{NodeID: uint64(r.Founders[at].ID), ClusterID: cfg.clusterID()}
	last := uint64(len(entries))
	state := raftlog.HardState{Term: 1, Vote: conf.Voters[0], Commit: last}
	log, err := raftlog.Create(raftlog.Config{FS: r.FS, Dir: wal, Log: slog.New(slog.DiscardHandler), SegmentBytes: r.segmentBytes}, meta, raftlog.Save{Entries: entries, State: state})
	if err != nil {
		return raftlog.SnapshotRecord{}, err
	}
	record := raftlog.SnapshotRecord{Index: last, Term: 1, ConfState: conf}
	if err := log.Append(raftlog.Save{Snapshot: &record}); err != nil {
		return raftlog.SnapshotRecord{}, err
	}
	return record, log.Close()
}

// writeDatabase makes member/snap/db.
func (e etcdDir) writeDatabase(src etcdfile.Source) error {
	if err := e.fs.MkdirAll(e.snap, 0o700); err != nil {
		return err
	}
	if _, err := etcdfile.Write(e.fs, e.fs.PathJoin(e.snap, "db"), src); err != nil {
		return err
	}
	member := e.fs.PathDir(e.snap)
	for _, dir := range []string{e.snap, member, e.root, e.fs.PathDir(e.root)} {
		if err := durable.Names(e.fs, dir); err != nil {
			return err
		}
	}
	return nil
}

// writeSnap makes the .snap file of the state that a snapshot record names: etcd up to 3.6 wants one to start.
func (e etcdDir) writeSnap(src etcdfile.Source, record raftlog.SnapshotRecord) (err error) {
	meta, err := src.Meta()
	if err != nil {
		return err
	}
	var members []etcdfile.Member
	for m, err := range src.Members() {
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	var removed []kv.MemberID
	for id, err := range src.RemovedMembers() {
		if err != nil {
			return err
		}
		removed = append(removed, id)
	}
	v2, err := etcdfile.V2Membership(members, removed, meta.ClusterVersion)
	if err != nil {
		return err
	}
	data, err := proto.Marshal(&raftpb.Snapshot{Data: v2, Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(record.Index), Term: proto.Uint64(record.Term), ConfState: record.ConfState,
	}})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%016x-%016x.snap", record.Term, record.Index)
	if err := writeSynced(e.fs, e.fs.PathJoin(e.snap, name), etcdfile.EncodeSnap(data)); err != nil {
		return err
	}
	return durable.Names(e.fs, e.snap)
}

// restoredSource is a snapshot as the state of a new cluster.
type restoredSource struct {
	*etcdfile.Database
	founders []membership.Member
	members  []etcdfile.Member
	was, is  kv.Revision
	bumped   bool
	meta     etcdfile.Meta
	imported func(bytes int64)
}

func newRestoredSource(r Restore) (*restoredSource, error) {
	s := &restoredSource{Database: r.Snapshot, founders: r.Founders, bumped: r.Bump > 0, imported: r.Imported}
	var err error
	if s.meta, err = r.Snapshot.Meta(); err != nil {
		return nil, err
	}
	if s.was, err = r.Snapshot.Revision(); err != nil {
		return nil, err
	}
	s.is = s.was + r.Bump
	for _, m := range r.Founders {
		s.members = append(s.members, etcdfile.Member{ID: m.ID, PeerURLs: m.PeerURLs, Name: m.Name})
	}
	slices.SortFunc(s.members, func(a, b etcdfile.Member) int { return cmp.Compare(a.ID, b.ID) })
	// The founding entries are the first of the new log, and the state is that after them.
	conf := new(etcdfile.ConfState)
	for _, m := range s.members {
		conf.Voters = append(conf.Voters, uint64(m.ID))
	}
	s.meta.Applied, s.meta.Term, s.meta.ConfState = kv.Index(len(s.members)), 1, conf
	if s.bumped {
		s.meta.ScheduledCompact = s.is
	}
	return s, nil
}

func (s *restoredSource) clusterID() uint64 {
	cfg := Config{Founders: s.founders}
	return cfg.clusterID()
}

// Meta implements etcdfile.Source.
func (s *restoredSource) Meta() (etcdfile.Meta, error) { return s.meta, nil }

// Rows implements etcdfile.Source: a row that is no key holds the raised revision, as etcd's tool leaves it.
func (s *restoredSource) Rows() iter.Seq2[etcdfile.Row, error] {
	return func(yield func(etcdfile.Row, error) bool) {
		for row, err := range s.Database.Rows() {
			if s.imported != nil {
				s.imported(int64(len(row.Encoded)))
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
		if s.bumped {
			yield(etcdfile.Row{Rev: kv.Rev{Main: s.is}}, nil)
		}
	}
}

// Members implements etcdfile.Source.
func (s *restoredSource) Members() iter.Seq2[etcdfile.Member, error] {
	return each(s.members, func(m etcdfile.Member) etcdfile.Member { return m })
}

// RemovedMembers implements etcdfile.Source.
func (s *restoredSource) RemovedMembers() iter.Seq2[kv.MemberID, error] {
	return each[kv.MemberID, kv.MemberID](nil, nil)
}

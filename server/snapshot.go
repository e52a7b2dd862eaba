package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/auth"
	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/storage"
)

// Snapshot is an etcd database file with its SHA-256 behind it, of everything this member held at one applied index.
type Snapshot struct {
	io.ReadCloser
	// Size is the number of bytes to read, digest included.
	Size int64
	// Version is the storage version of the file.
	Version string
}

// Snapshot writes the member's state into a database file and returns it for reading. Writes go on meanwhile; Close
// removes the file. The file needs as much space as the data: it is given up when the disk becomes nearly full.
func (s *Server) Snapshot(ctx context.Context) (Snapshot, error) {
	began := s.cfg.Now()
	path := s.dir.path("tmp", strconv.FormatUint(s.ids.draw(), 16)+".db")
	source, err := s.exportTo(ctx, path)
	if err != nil {
		return Snapshot{}, fmt.Errorf("write a snapshot: %w", errors.Join(err, s.removeTemp(path)))
	}
	r, err := etcdfile.OpenSnapshot(s.dir.fs, path)
	if err != nil {
		return Snapshot{}, fmt.Errorf("read back a snapshot: %w", errors.Join(err, s.removeTemp(path)))
	}
	file := tempFile{Reader: r, close: func() error {
		s.seen.snapshots.Took(s.cfg.Now().Sub(began))
		return errors.Join(r.Close(), s.removeTemp(path))
	}}
	return Snapshot{ReadCloser: file, Size: r.Size(), Version: fileVersion(source.cluster.Version())}, nil
}

// tempFile is read once and gone when closed.
type tempFile struct {
	io.Reader
	close func() error
}

// Close removes the file.
func (f tempFile) Close() error { return f.close() }

func (s *Server) removeTemp(path string) error {
	if !s.dir.has(path) {
		return nil
	}
	return s.dir.fs.Remove(path)
}

// errNoSnapshotSpace ends a snapshot that would take the space that writes need.
var errNoSnapshotSpace = errors.New("the disk is nearly full")

// snapshotStopped says why a snapshot in the making is to be given up.
func (s *Server) snapshotStopped(ctx context.Context) error {
	if s.space.low.Load() {
		return errNoSnapshotSpace
	}
	return ctx.Err()
}

// exportTo writes the present state into a new file and returns what it was.
func (s *Server) exportTo(ctx context.Context, path string) (source *exportSource, err error) {
	export, err := s.keys.Export()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, export.Close()) }()
	source, err = newExportSource(export, s.cfg.LearnersMax)
	if err != nil {
		return nil, err
	}
	source.stopped = func() error { return s.snapshotStopped(ctx) }
	_, err = etcdfile.Write(s.dir.fs, path, source)
	return source, err
}

// exportSource gives etcdfile all parts of the state from one view of the store.
type exportSource struct {
	keys    *mvcc.Export
	applied storage.Applied
	leases  *lease.Set
	auth    auth.Rows
	cluster *membership.Cluster
	stopped func() error // asked for each row
}

func newExportSource(keys *mvcc.Export, learnersMax int) (*exportSource, error) {
	view := keys.Reader()
	e := &exportSource{keys: keys}
	var err error
	if e.applied, err = view.Applied(); err != nil {
		return nil, err
	}
	if e.leases, err = lease.Load(view, 0); err != nil {
		return nil, err
	}
	if e.auth, err = auth.Export(view); err != nil {
		return nil, err
	}
	e.cluster, err = membership.Load(view, learnersMax)
	return e, err
}

// Meta implements etcdfile.Source.
func (e *exportSource) Meta() (etcdfile.Meta, error) {
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(e.applied.ConfState, conf); err != nil {
		return etcdfile.Meta{}, fmt.Errorf("read the raft configuration: %w", err)
	}
	meta := etcdfile.Meta{
		Applied: e.applied.Index, Term: e.applied.Term,
		ConfState: &etcdfile.ConfState{
			Voters: conf.GetVoters(), Learners: conf.GetLearners(), VotersOutgoing: conf.GetVotersOutgoing(),
			LearnersNext: conf.GetLearnersNext(), AutoLeave: conf.GetAutoLeave(),
		},
		StorageVersion:   recordedVersion(e.cluster.Version()),
		ScheduledCompact: e.keys.Scheduled, FinishedCompact: e.keys.Finished,
		ClusterVersion: e.cluster.Version(),
		AuthEnabled:    e.auth.Enabled, AuthRevision: e.auth.Revision,
	}
	if d, ever := e.cluster.Downgrade(); ever {
		meta.Downgrade = &etcdfile.Downgrade{TargetVersion: d.TargetVersion, Enabled: d.Enabled}
	}
	return meta, nil
}

// Rows implements etcdfile.Source.
func (e *exportSource) Rows() iter.Seq2[etcdfile.Row, error] {
	return func(yield func(etcdfile.Row, error) bool) {
		for row, err := range e.keys.Rows() {
			if err == nil {
				err = e.stopped()
			}
			if !yield(etcdfile.Row{Rev: row.Rev, Tombstone: row.Tombstone, Encoded: row.Encoded}, err) {
				return
			}
		}
	}
}

// each yields what convert makes of every element, without errors.
func each[F, T any](from []F, convert func(F) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, f := range from {
			if !yield(convert(f), nil) {
				return
			}
		}
	}
}

// Leases implements etcdfile.Source.
func (e *exportSource) Leases() iter.Seq2[etcdfile.Lease, error] {
	return each(e.leases.All(), func(l lease.Lease) etcdfile.Lease {
		return etcdfile.Lease{ID: l.ID, TTL: l.TTL, Remaining: l.Remaining}
	})
}

// Alarms implements etcdfile.Source.
func (e *exportSource) Alarms() iter.Seq2[etcdfile.Alarm, error] {
	return each(e.cluster.Alarms(membership.AlarmNone), func(a membership.Alarm) etcdfile.Alarm {
		return etcdfile.Alarm{Member: a.Member, Kind: int32(a.Type)}
	})
}

// Members implements etcdfile.Source.
func (e *exportSource) Members() iter.Seq2[etcdfile.Member, error] {
	return each(e.cluster.Members(), func(m membership.Member) etcdfile.Member {
		return etcdfile.Member{ID: m.ID, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner, Name: m.Name, ClientURLs: m.ClientURLs}
	})
}

// RemovedMembers implements etcdfile.Source.
func (e *exportSource) RemovedMembers() iter.Seq2[kv.MemberID, error] {
	return each(e.cluster.RemovedMembers(), func(id kv.MemberID) kv.MemberID { return id })
}

// Users implements etcdfile.Source.
func (e *exportSource) Users() iter.Seq2[etcdfile.Account, error] { return each(e.auth.Users, account) }

// Roles implements etcdfile.Source.
func (e *exportSource) Roles() iter.Seq2[etcdfile.Account, error] { return each(e.auth.Roles, account) }

func account(r auth.Row) etcdfile.Account { return etcdfile.Account{Name: r.Name, Encoded: r.Encoded} }

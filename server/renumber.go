package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
	"holdfast/storage"
)

// Renumbering gives members of a cluster that does not run other addresses, in the data directory of one of them. The cluster is
// as before when that was done in each member's directory.
type Renumbering struct {
	FS              vfs.FS // nil is the operating system's
	DataDir, WALDir string
	// PeerURLs are the new ones, by the name or the id (hex) of a member. Members that are not in it keep theirs.
	PeerURLs map[string][]string
	Log      *slog.Logger
}

// errUnapplied says that what a member is to be given could be overwritten by what its log still has.
var errUnapplied = errors.New("the member was not stopped in good order, and its log holds changes of the membership that are not carried out yet: start it once, alone if need be, and stop it with SIGTERM; then try again")

// Run changes the directory and returns the members as they are then, and the entry up to which this one has carried out the log.
func (r Renumbering) Run() (members []membership.Member, at kv.Index, err error) {
	disk := cmp.Or(r.FS, vfs.Default)
	found, err := newDataDir(disk, r.DataDir, r.WALDir).hasFormat()
	if err == nil && !found {
		err = fmt.Errorf("%s is no data directory of a member: it has no member/FORMAT", r.DataDir)
	}
	if err != nil {
		return nil, 0, err
	}
	d, err := openDataDir(disk, r.DataDir, r.WALDir)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, d.lock.Close()) }()
	dir, err := d.settleStore(r.Log)
	if err != nil {
		return nil, 0, err
	}
	st, err := storage.Open(storage.Config{FS: disk, Dir: dir, Log: r.Log})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	at = st.Applied().Index
	if err := nothingPending(d, at); err != nil {
		return nil, 0, err
	}
	cluster, err := membership.Load(st, offlineLearnersMax)
	if err != nil {
		return nil, 0, err
	}
	b := st.NewBatch()
	defer b.Close()
	if err := renumber(b, cluster, r.PeerURLs); err != nil {
		return nil, 0, err
	}
	if err := b.Commit(); err != nil {
		return nil, 0, err
	}
	return cluster.Members(), at, st.Flush()
}

// nothingPending asks that no change of the membership is committed and not carried out.
func nothingPending(d *dataDir, applied kv.Index) error {
	rec, err := raftlog.ReadAfter(d.fs, d.wal, uint64(applied))
	if errors.Is(err, raftlog.ErrNotFound) {
		return fmt.Errorf("%w: name its place with --wal-dir", err)
	}
	if err != nil {
		return err
	}
	if err := rec.Check(uint64(applied)); err != nil {
		return err
	}
	pending := func(e *raftpb.Entry) bool {
		return e.GetType() != raftpb.EntryNormal && e.GetIndex() <= rec.State.Commit
	}
	if applied == 0 || slices.ContainsFunc(rec.Entries, pending) {
		return errUnapplied
	}
	return nil
}

// renumber changes the members all at once: two may exchange their addresses.
func renumber(b *storage.Batch, cluster *membership.Cluster, urls map[string][]string) error {
	members := cluster.Members()
	for _, who := range slices.Sorted(maps.Keys(urls)) {
		at := slices.IndexFunc(members, func(m membership.Member) bool { return m.Name == who || m.ID.String() == who })
		if at < 0 {
			return fmt.Errorf("there is no member %q; there are %s", who, namesOf(members))
		}
		members[at].PeerURLs = urls[who]
	}
	owner := map[string]membership.Member{}
	for _, m := range members {
		for _, u := range m.PeerURLs {
			if other, taken := owner[u]; taken {
				return fmt.Errorf("%s would be the address of both %v (%s) and %v (%s)", u, other.ID, other.Name, m.ID, m.Name)
			}
			owner[u] = m
		}
	}
	for _, m := range members {
		cluster.Apply(b, membership.Change{Kind: membership.Update, Member: m})
	}
	return nil
}

func namesOf(members []membership.Member) string {
	text := ""
	for i, m := range members {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%v (%s)", m.ID, cmp.Or(m.Name, "not started"))
	}
	return text
}

package server

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"holdfast/auth"
	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/storage"
)

// importer fills an empty store with everything an etcd database holds.
type importer struct {
	st *storage.Store
	db *etcdfile.Database
	// at is what the message says that the database is the state of. The database may name an earlier index: etcd does
	// not write down entries that change nothing.
	at          storage.Applied
	leaseTTLMin int64
	learnersMax int
	stopped     func(bytes int) error // asked for each row

	attached map[string]kv.LeaseID // keys that hang on a lease
}

func (i *importer) run() error {
	meta, err := i.db.Meta()
	if err == nil {
		err = i.check(meta)
	}
	if err == nil {
		err = i.keys(meta)
	}
	if err == nil {
		err = i.rest(meta)
	}
	if err != nil {
		return fmt.Errorf("import the database of entry %d: %w", i.at.Index, err)
	}
	return nil
}

// check refuses what this version does not understand.
func (i *importer) check(meta etcdfile.Meta) error {
	if _, err := meta.SchemaMinor(); err != nil {
		return err
	}
	if err := checkVersion(meta.ClusterVersion); err != nil {
		return err
	}
	if meta.Applied > i.at.Index {
		return fmt.Errorf("it is the state at entry %d", meta.Applied)
	}
	return nil
}

// keys imports the history.
func (i *importer) keys(meta etcdfile.Meta) (err error) {
	imp, err := mvcc.NewImport(i.st)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, imp.Close()) }()
	i.attached = map[string]kv.LeaseID{}
	for row, err := range i.db.Rows() {
		if err != nil {
			return err
		}
		if err := i.stopped(len(row.Encoded)); err != nil {
			return err
		}
		if err := imp.Add(mvcc.Row{Rev: row.Rev, Tombstone: row.Tombstone, Encoded: row.Encoded}); err != nil {
			return err
		}
		if err := i.attach(row); err != nil {
			return err
		}
	}
	return imp.Finish(meta.Compacted(), meta.FinishedCompact)
}

// attach notes on which lease the key of row hangs now.
func (i *importer) attach(row etcdfile.Row) error {
	v, err := kv.DecodeKeyValue(row.Encoded)
	if err != nil {
		return err
	}
	if !row.Tombstone && v.Lease != 0 {
		i.attached[string(v.Key)] = v.Lease
	} else if len(i.attached) > 0 {
		delete(i.attached, string(v.Key))
	}
	return nil
}

// rest imports leases, users and roles, and membership, and where the store stands.
func (i *importer) rest(meta etcdfile.Meta) (err error) {
	b := &steps{st: i.st, batch: i.st.NewBatch()}
	defer func() { err = errors.Join(err, b.batch.Close()) }()
	leases, err := lease.Load(i.st, i.leaseTTLMin)
	if err != nil {
		return err
	}
	for l, err := range i.db.Leases() {
		if err == nil {
			leases.Restore(b.batch, lease.Lease{ID: l.ID, TTL: l.TTL, Remaining: l.Remaining})
			err = b.next()
		}
		if err != nil {
			return err
		}
	}
	for key, id := range i.attached {
		leases.Move(b.batch, []byte(key), 0, id)
		if err := b.next(); err != nil {
			return err
		}
	}
	if err := i.auth(b.batch, meta); err != nil {
		return err
	}
	if err := i.membership(b.batch, meta); err != nil {
		return err
	}
	b.batch.SetApplied(i.at.Index, i.at.Term, i.at.ConfState)
	return b.batch.Commit()
}

// auth imports users and roles.
func (i *importer) auth(b *storage.Batch, meta etcdfile.Meta) (err error) {
	rows := auth.Rows{Enabled: meta.AuthEnabled, Revision: meta.AuthRevision}
	if rows.Users, err = accountRows(i.db.Users()); err != nil {
		return err
	}
	if rows.Roles, err = accountRows(i.db.Roles()); err != nil {
		return err
	}
	if _, err := rows.State(); err != nil {
		return err
	}
	rows.Restore(b)
	return nil
}

func accountRows(accounts iter.Seq2[etcdfile.Account, error]) (rows []auth.Row, err error) {
	for a, err := range accounts {
		if err != nil {
			return nil, err
		}
		rows = append(rows, auth.Row{Name: a.Name, Encoded: bytes.Clone(a.Encoded)})
	}
	return rows, nil
}

func (i *importer) membership(b *storage.Batch, meta etcdfile.Meta) error {
	cluster, err := membership.Load(i.st, i.learnersMax)
	if err != nil {
		return err
	}
	for m, err := range i.db.Members() {
		if err != nil {
			return err
		}
		kind := membership.AddVoter
		if m.IsLearner {
			kind = membership.AddLearner
		}
		cluster.Apply(b, membership.Change{Kind: kind, Member: membership.Member{
			ID: m.ID, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner, Name: m.Name, ClientURLs: m.ClientURLs,
		}})
	}
	for id, err := range i.db.RemovedMembers() {
		if err != nil {
			return err
		}
		cluster.Apply(b, membership.Change{Kind: membership.Remove, Member: membership.Member{ID: id}})
	}
	for a, err := range i.db.Alarms() {
		if err != nil {
			return err
		}
		cluster.Raise(b, membership.Alarm{Member: a.Member, Type: membership.AlarmType(a.Kind)})
	}
	if meta.ClusterVersion != "" {
		cluster.SetVersion(b, meta.ClusterVersion)
	}
	if d := meta.Downgrade; d != nil {
		cluster.SetDowngrade(b, membership.Downgrade{TargetVersion: d.TargetVersion, Enabled: d.Enabled})
	}
	return nil
}

// steps is a batch that is committed whenever it has become large.
type steps struct {
	st    *storage.Store
	batch *storage.Batch
}

// stepBytes bounds the batch: large enough that its overhead is not felt.
const stepBytes = 4 << 20

func (s *steps) next() error {
	if s.batch.Len() < stepBytes {
		return nil
	}
	if err := errors.Join(s.batch.Commit(), s.batch.Close()); err != nil {
		return err
	}
	s.batch = s.st.NewBatch()
	return nil
}

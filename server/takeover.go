package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/etcdfile"
	"holdfast/raftlog"
	"holdfast/storage"
	"holdfast/util/durable"
)

// A take-over makes an etcd's directory one of ours: the database becomes a store, the raft log stays as it is.
//
//	| crash after                                | at the next start                                   |
//	|--------------------------------------------|-----------------------------------------------------|
//	| any byte of member/store.part              | it is removed, and the database imported anew       |
//	| member/snap is renamed to member/snap.taken| it is renamed back, and the database imported anew  |
//	| member/store has its name                  | member/snap.taken is removed                        |
//
// Until the second step the directory is etcd's, whole.

// snapTaken is the name of member/snap once the store made of it is whole.
const snapTaken = "snap.taken"

// TakeOver says which etcd's data becomes a member's.
type TakeOver struct {
	FS vfs.FS // nil is the operating system's
	// From is the etcd's directory, FromWAL its raft log; empty for the usual place.
	From, FromWAL string
	// To is the new directory of the member, ToWAL its raft log; the etcd's is only read then. An empty To makes From itself
	// the member's.
	To, ToWAL string
	// Copied and Imported, if set, are told how many bytes of the log and of rows have been worked on.
	Copied, Imported func(bytes int64)
	Log              *slog.Logger
}

// Run takes the data over. It returns an error that is fs.ErrExist if To is no empty directory.
func (t TakeOver) Run(ctx context.Context) (err error) {
	if t.FS == nil {
		t.FS = vfs.Default
	}
	from, d := newEtcdDir(t.FS, t.From, t.FromWAL), newDataDir(t.FS, t.From, t.FromWAL)
	if d.hasStore() {
		return fmt.Errorf("data directory %s has a Holdfast store already", t.From)
	}
	if t.To == "" {
		if err := d.hold(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.lock.Close()) }()
		return d.takeOver(ctx, t.importing)
	}
	if err := mustBeEmpty(t.FS, t.To, t.ToWAL); err != nil {
		return err
	}
	state, err := from.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.db.Close()) }()
	to := newDataDir(t.FS, t.To, t.ToWAL)
	if err := to.hold(); err != nil {
		return err
	}
	err = raftlog.Copy(t.FS, from.wal, to.wal, t.Copied)
	if err == nil {
		err = to.makeStore(ctx, state, t.importing)
	}
	if err = errors.Join(err, to.lock.Close()); err != nil {
		err = errors.Join(err, t.FS.RemoveAll(to.path()), t.FS.RemoveAll(to.wal)) // nothing else was there
	}
	return err
}

// importing tells how to import, in the settings of a tool that has the machine for itself.
func (t TakeOver) importing(ctx context.Context, dir string, s etcdState) error {
	cfg := storage.Config{FS: t.FS, Dir: dir, Log: t.Log}
	return importState(cfg, s, func(n int) error {
		if t.Imported != nil {
			t.Imported(int64(n))
		}
		return ctx.Err()
	})
}

// mustBeEmpty asks that directories are not there, or hold nothing.
func mustBeEmpty(disk vfs.FS, dirs ...string) error {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		names, err := disk.List(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(names) > 0 {
			return fmt.Errorf("%s is not empty: %w", dir, fs.ErrExist)
		}
	}
	return nil
}

// storeMaker fills a new store in dir with the state of an etcd.
type storeMaker func(ctx context.Context, dir string, s etcdState) error

// importState makes a durable store in cfg.Dir out of an etcd's state.
func importState(cfg storage.Config, s etcdState, stopped func(bytes int) error) error {
	if err := storage.Create(cfg); err != nil {
		return err
	}
	if s.at.Index == 0 { // it has not applied anything yet
		return nil
	}
	st, err := storage.Open(cfg)
	if err != nil {
		return err
	}
	i := importer{st: st, db: s.db, at: s.at, stopped: stopped}
	err = i.run()
	if err == nil {
		err = st.Flush()
	}
	return errors.Join(err, st.Close())
}

// takeOver makes this directory, which is an etcd's, one of ours.
func (d *dataDir) takeOver(ctx context.Context, fill storeMaker) (err error) {
	if err := d.giveBack(); err != nil {
		return err
	}
	state, err := newEtcdDir(d.fs, d.root, d.wal).open()
	if errors.Is(err, etcdfile.ErrInUse) {
		return fmt.Errorf("data directory %s belongs to etcd, and an etcd runs on it: stop that, or choose another --data-dir", d.root)
	}
	if err != nil {
		return fmt.Errorf("take over the etcd's data directory %s: %w", d.root, err)
	}
	defer func() { err = errors.Join(err, state.db.Close()) }()
	return d.makeStore(ctx, state, fill)
}

// takeOver makes the directory of an etcd this member's, and completes what was interrupted.
func (s *Server) takeOver() error {
	if !s.dir.isEtcds() {
		return s.dir.removeTaken()
	}
	s.log.Info("taking over a restored etcd data directory", "data-dir", s.dir.root)
	return s.dir.takeOver(context.Background(), func(_ context.Context, dir string, state etcdState) error {
		cfg := s.storeConfig(dir)
		cfg.OnFatal = nil // its commits and its flush tell
		return importState(cfg, state, func(n int) error {
			if room, err := s.space.admit(int64(n), s.log); err != nil || !room {
				return errors.Join(err, errNoSnapshotSpace)
			}
			return nil
		})
	})
}

// giveBack undoes a take-over that did not come to its end.
func (d *dataDir) giveBack() error {
	if d.hasStore() || !d.has(d.path(snapTaken, "db")) {
		return nil
	}
	if err := d.fs.Rename(d.path(snapTaken), d.path("snap")); err != nil {
		return fmt.Errorf("give back what an interrupted take-over left: %w", err)
	}
	return durable.Names(d.fs, d.path())
}

// makeStore makes the member's store of an etcd's state, and takes the etcd's own files away if they are in this directory.
func (d *dataDir) makeStore(ctx context.Context, state etcdState, fill storeMaker) error {
	unfinished := d.path(storeFirst + storeUnfinished)
	if err := d.fs.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := fill(ctx, unfinished, state); err != nil {
		return fmt.Errorf("take over the data of an etcd: %w", errors.Join(err, d.fs.RemoveAll(unfinished)))
	}
	if !d.has(d.path("FORMAT")) {
		if err := d.writeFormat(); err != nil {
			return err
		}
	}
	for _, names := range [][2]string{{"snap", snapTaken}, {storeFirst + storeUnfinished, storeFirst}} {
		if !d.has(d.path(names[0])) {
			continue
		}
		if err := d.fs.Rename(d.path(names[0]), d.path(names[1])); err != nil {
			return fmt.Errorf("take over the data of an etcd: %w", err)
		}
		if err := durable.Names(d.fs, d.path()); err != nil {
			return fmt.Errorf("take over the data of an etcd: %w", err)
		}
	}
	return d.removeTaken()
}

// removeTaken ends a take-over.
func (d *dataDir) removeTaken() error {
	if err := d.fs.RemoveAll(d.path(snapTaken)); err != nil {
		return fmt.Errorf("remove the database that was taken over: %w", err)
	}
	return nil
}

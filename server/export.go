package server

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/etcdfile"
	"holdfast/raftlog"
)

// ExportEtcd makes the data directory of an etcd that goes on where a member of ours stopped: the state at the last flush as a
// database, and the raft log, which etcd replays from there as we would. The member's own directory is only read.
type ExportEtcd struct {
	FS vfs.FS // nil is the operating system's
	// DataDir and WALDir are the member's. To and ToWAL must be empty; an empty ToWAL is the usual place.
	DataDir, WALDir string
	To, ToWAL       string
	// Copied, if set, hears of the bytes of the log as they are copied.
	Copied func(bytes int64)
}

// Run exports.
func (x ExportEtcd) Run(ctx context.Context) (err error) {
	if x.FS == nil {
		x.FS = vfs.Default
	}
	if err := mustBeEmpty(x.FS, x.To, x.ToWAL); err != nil {
		return err
	}
	o, err := OpenOffline(OfflineConfig{FS: x.FS, DataDir: x.DataDir, WALDir: x.WALDir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	src, done, err := o.Source(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	dir := newEtcdDir(x.FS, x.To, x.ToWAL)
	if err := x.write(dir, o, src); err != nil {
		return errors.Join(err, dir.remove())
	}
	return nil
}

func (x ExportEtcd) write(dir etcdDir, o *Offline, src etcdfile.Source) error {
	if err := dir.writeDatabase(src); err != nil {
		return err
	}
	if n := len(o.rec.Snapshots); n > 0 && o.rec.Snapshots[n-1].Index > 0 {
		if err := dir.writeSnap(src, o.rec.Snapshots[n-1]); err != nil {
			return err
		}
	}
	return raftlog.Copy(x.FS, o.dir.wal, dir.wal, x.Copied)
}

// Source is everything that the member holds, after what was applied so far, for an etcd database. done ends the reading.
func (o *Offline) Source(ctx context.Context) (src etcdfile.Source, done func() error, err error) {
	export, err := o.keys.Export()
	if err != nil {
		return nil, nil, err
	}
	source, err := newExportSource(export, offlineLearnersMax)
	if err != nil {
		return nil, nil, errors.Join(err, export.Close())
	}
	source.stopped = ctx.Err
	return source, export.Close, nil
}

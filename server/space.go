package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/apply"
	"holdfast/membership"
	"holdfast/metrics"
	"holdfast/raftlog"
	"holdfast/storage"
)

// spaceReserve is the free disk space below which writes are refused: room for the raft log and the store to finish
// what they have accepted, and for deletes and compactions, which are how space comes back. On a small disk it is an
// eighth of the disk.
const spaceReserve = 256 << 20

// spaceCheck is how often the disk is looked at for what others take of it. What this member admits is counted, and the
// disk looked at again after a lookShare of the reserve: so it cannot run into the end of the disk between two looks.
const (
	spaceCheck = time.Second
	lookShare  = 16
)

// spaceGuard watches how much is free on the disks that hold the member: that of the store, and that of the raft log, which
// may be another.
type spaceGuard struct {
	fs         vfs.FS
	store, log disk
	watched    []*disk     // each once
	low        atomic.Bool // one of them is
	// pending is what the store has taken in and not written yet, in bytes; nil for none.
	pending func() int64
	// admitted counts the bytes admitted since the disks were looked at.
	admitted atomic.Int64
	// lowered has one slot: a disk has become low.
	lowered chan struct{}
}

// disk is one file system, by a directory in it.
type disk struct {
	dir            string
	total, reserve uint64 // 0 where the file system does not tell
	free           atomic.Uint64
	low            atomic.Bool
}

// newSpaceGuard looks at the disks for the first time. logDir may be about to be made; store and log may share a disk.
func newSpaceGuard(fs vfs.FS, storeDir, logDir string) (*spaceGuard, error) {
	g := &spaceGuard{fs: fs, lowered: make(chan struct{}, 1)}
	for !exists(fs, logDir) && fs.PathDir(logDir) != logDir {
		logDir = fs.PathDir(logDir)
	}
	g.store.dir, g.log.dir = storeDir, logDir
	var usages []vfs.DiskUsage
	for _, d := range []*disk{&g.store, &g.log} {
		usage, err := fs.GetDiskUsage(d.dir)
		if err != nil && !errors.Is(err, vfs.ErrUnsupported) {
			return nil, fmt.Errorf("ask for the free space of %s: %w", d.dir, err)
		}
		usages = append(usages, usage)
		d.total = usage.TotalBytes
		d.reserve = min(spaceReserve, d.total/8)
		d.low.Store(usage.AvailBytes < d.reserve)
	}
	if usages[0] == usages[1] {
		g.watched = []*disk{&g.store} // they share a disk; to look at it twice would only say everything twice
	} else {
		g.watched = []*disk{&g.store, &g.log}
	}
	g.low.Store(g.store.low.Load() || g.log.low.Load())
	return g, nil
}

func exists(fs vfs.FS, path string) bool {
	_, err := fs.Stat(path)
	return err == nil
}

// tells reports whether the file systems say how full they are.
func (g *spaceGuard) tells() bool { return g.store.total > 0 || g.log.total > 0 }

// segmentBytes is the size for files of the raft log: etcd's, or less on a disk of which two of them would take more than
// a sixteenth.
func (g *spaceGuard) segmentBytes() int64 {
	return g.log.fitting(raftlog.SegmentBytesDefault, 1<<20, 32)
}

// flushBytes is how much may be applied before the store is made durable: what was asked for, 0 for the default, or less on a
// small disk, which must have room for it when it comes, and for the merge of as many as begin one: a 32nd of the disk, or 8 MB.
func (g *spaceGuard) flushBytes(asked int64) int64 {
	if asked == 0 {
		asked = storage.FlushBytesDefault
	}
	return g.store.fitting(asked, min(asked, 8<<20/storage.SublevelsMerged), 32*storage.SublevelsMerged)
}

// tableBytes is the size for the store's table files: the default, or less on a disk whose reserve would have no room for
// a compaction of such tables.
func (g *spaceGuard) tableBytes() int64 {
	return g.store.fitting(storage.TableBytesDefault, 64<<10, 512)
}

// fitting is most bytes, or a share of a small disk, but at least least.
func (d *disk) fitting(most, least, share int64) int64 {
	if d.total == 0 {
		return most
	}
	return max(least, min(most, int64(d.total)/share))
}

// watch looks at the disks until ctx ends.
func (g *spaceGuard) watch(ctx context.Context, log *slog.Logger) error {
	if !g.tells() {
		return nil
	}
	tick := time.NewTicker(spaceCheck)
	defer tick.Stop()
	for {
		if err := g.look(log); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look asks the disks how much is free.
func (g *spaceGuard) look(log *slog.Logger) error {
	low := false
	for _, d := range g.watched {
		if d.total == 0 {
			continue
		}
		usage, err := g.fs.GetDiskUsage(d.dir)
		if err != nil {
			return fmt.Errorf("ask for the free space of %s: %w", d.dir, err)
		}
		free := usage.AvailBytes
		if d == &g.store && g.pending != nil {
			free -= min(free, uint64(g.pending()))
		}
		low = d.set(free, log) || low
	}
	if !g.low.Swap(low) && low {
		poke(g.lowered)
	}
	return nil
}

// set takes in how much is free, says so when the answer to writers changes, and returns whether it is too little.
func (d *disk) set(free uint64, log *slog.Logger) bool {
	d.free.Store(free)
	low := free < d.reserve
	switch was := d.low.Swap(low); {
	case low && !was:
		log.Warn("the disk is nearly full: writes are refused until there is more space; delete and compact, or make room on the disk",
			"dir", d.dir, "free-bytes", free, "reserve-bytes", d.reserve)
	case was && !low:
		log.Info("there is enough free disk space again: writes are accepted", "dir", d.dir, "free-bytes", free, "reserve-bytes", d.reserve)
	}
	return low
}

// sample shows how much room there is.
func (g *spaceGuard) sample(out *metrics.Sample) {
	out.Bool(metrics.DiskLow, g.low.Load())
	for _, d := range g.watched {
		name := "store"
		if d == &g.log {
			name = "log"
		}
		out.Set(metrics.DiskFree, float64(d.free.Load()), name)
		out.Set(metrics.DiskReserve, float64(d.reserve), name)
	}
}

// admit counts a request that is about to be written and tells whether the disks have room for it.
func (g *spaceGuard) admit(cost int64, log *slog.Logger) (bool, error) {
	if g.tells() && g.admitted.Add(cost) > g.lookAfter() {
		g.admitted.Store(0)
		if err := g.look(log); err != nil {
			return false, err
		}
	}
	return !g.low.Load(), nil
}

// lookAfter is how much may be admitted between two looks.
func (g *spaceGuard) lookAfter() int64 {
	reserve := uint64(spaceReserve)
	for _, d := range g.watched {
		if d.total > 0 {
			reserve = min(reserve, d.reserve)
		}
	}
	return int64(reserve / lookShare)
}

// needSpace refuses a request that the quota or the disk has no room for, and one that the store cannot keep up with. Going
// beyond the quota sets the alarm, as in etcd; a full disk is its own alarm and over as soon as there is room again.
func (s *Server) needSpace(ctx context.Context, cost int64) error {
	if cost == 0 {
		return nil
	}
	if err := s.brake.pass(ctx, cost); err != nil {
		return err
	}
	if room, err := s.space.admit(cost, s.log); err != nil || !room {
		return errors.Join(err, apply.ErrNoSpace)
	}
	if s.machine.HasRoom(cost) {
		return nil
	}
	if err := s.raiseNoSpace(ctx); err != nil {
		s.log.Warn("could not raise the alarm that the quota is reached", "error", err)
	}
	return apply.ErrNoSpace
}

func (s *Server) raiseNoSpace(ctx context.Context) error {
	if s.cluster.HasAlarm(membership.AlarmNoSpace) {
		return nil
	}
	s.log.Warn("the quota is reached; raising the alarm", "quota-size-bytes", s.cfg.Quota)
	_, err := s.Alarm(ctx, AlarmActivate, membership.Alarm{Member: s.id, Type: membership.AlarmNoSpace})
	return err
}

// answer hands a result to whoever waits. One that found the quota reached waits until the alarm is in force, so that
// the client that is told so finds it set. What is replayed at start raises nothing: the alarm of that time stands in the log
// too, and may have been taken back since.
func (s *Server) answer(r apply.Result) {
	if r.Full && r.Index > s.replayed && !s.cluster.HasAlarm(membership.AlarmNoSpace) {
		s.fullAnswers.Put(r)
		return
	}
	s.waiters.deliver(r)
}

// raiseSpaceAlarms raises the alarm for results that found the quota reached, then delivers them.
func (s *Server) raiseSpaceAlarms(ctx context.Context) error {
	for {
		select {
		case <-s.fullWake:
		case <-ctx.Done():
			return nil
		}
		held := s.fullAnswers.Take(nil)
		if len(held) == 0 {
			continue
		}
		if err := s.raiseNoSpace(ctx); err != nil {
			s.log.Warn("could not raise the alarm that the quota is reached", "error", err)
		}
		for _, r := range held {
			s.waiters.deliver(r)
		}
	}
}

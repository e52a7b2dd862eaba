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

// spaceGuard watches how much of the disk is free.
type spaceGuard struct {
	fs      vfs.FS
	dir     string
	total   uint64 // 0 where the file system does not tell
	reserve uint64
	low     atomic.Bool
	// pending is what the store has taken in and not written yet, in bytes; nil for none.
	pending func() int64
	// admitted counts the bytes admitted since the disk was looked at.
	admitted atomic.Int64
	// lowered has one slot: the disk has become low.
	lowered chan struct{}
}

func newSpaceGuard(disk vfs.FS, dir string) (*spaceGuard, error) {
	g := &spaceGuard{fs: disk, dir: dir, lowered: make(chan struct{}, 1)}
	usage, err := disk.GetDiskUsage(dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return g, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	g.total = usage.TotalBytes
	g.reserve = min(spaceReserve, g.total/8)
	g.low.Store(usage.AvailBytes < g.reserve)
	return g, nil
}

// segmentBytes is the size for files of the raft log: etcd's, or less on a disk of which two of them would take more than
// a sixteenth.
func (g *spaceGuard) segmentBytes() int64 {
	if g.total == 0 {
		return raftlog.SegmentBytesDefault
	}
	return max(1<<20, min(raftlog.SegmentBytesDefault, int64(g.total/32)))
}

// flushBytes is how much may be applied before the store is made durable: the default, or less on a small disk, which
// must have room for it when it comes.
func (g *spaceGuard) flushBytes() int64 {
	if g.total == 0 {
		return storage.FlushBytesDefault
	}
	return max(1<<20, min(storage.FlushBytesDefault, int64(g.total/64)))
}

// tableBytes is the size for the store's table files: the default, or less on a disk whose reserve would have no room for
// a compaction of such tables.
func (g *spaceGuard) tableBytes() int64 {
	if g.total == 0 {
		return storage.TableBytesDefault
	}
	return max(64<<10, min(storage.TableBytesDefault, int64(g.total/512)))
}

// watch looks at the disk until ctx ends.
func (g *spaceGuard) watch(ctx context.Context, log *slog.Logger) error {
	if g.total == 0 {
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

// look asks the disk how much is free.
func (g *spaceGuard) look(log *slog.Logger) error {
	usage, err := g.fs.GetDiskUsage(g.dir)
	if err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", g.dir, err)
	}
	free := usage.AvailBytes
	if g.pending != nil {
		free -= min(free, uint64(g.pending()))
	}
	g.set(free, log)
	return nil
}

// set takes in how much is free and says so when the answer to writers changes.
func (g *spaceGuard) set(free uint64, log *slog.Logger) {
	low := free < g.reserve
	if g.low.Swap(low) == low {
		return
	}
	if low {
		poke(g.lowered)
		log.Warn("the disk is nearly full: writes are refused until there is more space; delete and compact, or make room on the disk",
			"dir", g.dir, "free-bytes", free, "reserve-bytes", g.reserve)
		return
	}
	log.Info("there is enough free disk space again: writes are accepted", "dir", g.dir, "free-bytes", free, "reserve-bytes", g.reserve)
}

// admit counts a request that is about to be written and tells whether the disk has room for it.
func (g *spaceGuard) admit(cost int64, log *slog.Logger) (bool, error) {
	if g.total > 0 && g.admitted.Add(cost) > int64(g.reserve/lookShare) {
		g.admitted.Store(0)
		if err := g.look(log); err != nil {
			return false, err
		}
	}
	return !g.low.Load(), nil
}

// needSpace refuses a request that the quota or the disk has no room for, and one that the store cannot keep up with. Going
// beyond the quota sets the alarm, as in etcd; a full disk is its own alarm and over as soon as there is room again.
func (s *Server) needSpace(ctx context.Context, cost int64) error {
	if cost == 0 {
		return nil
	}
	if s.congested.Load() {
		return ErrTooManyRequests
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

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
)

// spaceReserve is the free disk space below which writes are refused: room for the raft log and the store to finish
// what they have accepted, and for deletes and compactions, which are how space comes back. On a small disk it is an
// eighth of the disk.
const spaceReserve = 256 << 20

// spaceCheck is how often the disk is looked at. A disk at full speed takes about a gigabyte in that time; then the store
// or the log fails and the member stops, which is safe but not kind.
const spaceCheck = time.Second

// spaceGuard watches how much of the disk is free.
type spaceGuard struct {
	fs      vfs.FS
	dir     string
	total   uint64 // 0 where the file system does not tell
	reserve uint64
	low     atomic.Bool
}

func newSpaceGuard(disk vfs.FS, dir string) (*spaceGuard, error) {
	g := &spaceGuard{fs: disk, dir: dir}
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

// watch looks at the disk until ctx ends.
func (g *spaceGuard) watch(ctx context.Context, log *slog.Logger) error {
	if g.total == 0 {
		return nil
	}
	tick := time.NewTicker(spaceCheck)
	defer tick.Stop()
	for {
		usage, err := g.fs.GetDiskUsage(g.dir)
		if err != nil {
			return fmt.Errorf("ask for the free space of %s: %w", g.dir, err)
		}
		g.set(usage.AvailBytes, log)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// set takes in how much is free and says so when the answer to writers changes.
func (g *spaceGuard) set(free uint64, log *slog.Logger) {
	low := free < g.reserve
	if g.low.Swap(low) == low {
		return
	}
	if low {
		log.Warn("the disk is nearly full: writes are refused until there is more space; delete and compact, or make room on the disk",
			"dir", g.dir, "free-bytes", free, "reserve-bytes", g.reserve)
		return
	}
	log.Info("there is enough free disk space again: writes are accepted", "dir", g.dir, "free-bytes", free, "reserve-bytes", g.reserve)
}

// needSpace refuses a request that the quota or the disk has no room for. Going beyond the quota sets the alarm, as in
// etcd; a full disk is its own alarm and over as soon as there is room again.
func (s *Server) needSpace(ctx context.Context, cost int64) error {
	if cost == 0 {
		return nil
	}
	if s.space.low.Load() {
		return apply.ErrNoSpace
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
	_, err := s.Alarm(ctx, AlarmActivate, membership.Alarm{Member: s.id, Type: membership.AlarmNoSpace})
	return err
}

// answer hands a result to whoever waits. One that found the quota reached waits until the alarm is in force, so that
// the client that is told so finds it set.
func (s *Server) answer(r apply.Result) {
	if errors.Is(r.Err, apply.ErrNoSpace) && !s.cluster.HasAlarm(membership.AlarmNoSpace) {
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
		s.log.Warn("the quota is reached; raising the alarm", "quota-size-bytes", s.cfg.Quota)
		if err := s.raiseNoSpace(ctx); err != nil {
			s.log.Warn("could not raise the alarm that the quota is reached", "error", err)
		}
		for _, r := range held {
			s.waiters.deliver(r)
		}
	}
}

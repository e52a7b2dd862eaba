package server

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/raftlog"
	"holdfast/storage"
)

// compactBurst is how many steps of a compaction come without a rest: one to sum what it changes, one to remove it, one to
// find that nothing is left. A small compaction is then complete before the next one is asked for, as with etcd, whose cache
// of hashes depends on it.
const compactBurst = 3

// compactPiece is how many changes a step of a compaction looks at at once. What it removes of them is one batch, behind which what is applied
// waits: 0.1 ms for so many.
const compactPiece = 100

// compactPhysically removes what compactions have hidden, in steps with rests so that requests find the disk and the processor free. A step comes in
// pieces, each with its part of the rest, or more of it (courtesy). Where there are no requests there is no rest: 800,000 revisions take 1.5 s then, and
// a minute otherwise. It starts with what a crash interrupted.
func (s *Server) compactPhysically(ctx context.Context) error {
	piece := min(compactPiece, s.cfg.CompactionRows)
	pause := s.cfg.CompactionPause * time.Duration(piece) / time.Duration(s.cfg.CompactionRows)
	aim, _ := s.keys.Compaction() // the newest compaction when this one began
	for rows := piece; ; rows += piece {
		began := s.cfg.Now()
		done, err := s.compactStep(piece)
		if err != nil {
			return err
		}
		if done {
			poke(s.reclaimable)
			select {
			case <-s.compacted:
			case <-ctx.Done():
				return nil
			}
			rows = 0
			aim, _ = s.keys.Compaction()
			continue
		}
		newest, _ := s.keys.Compaction()
		rest := s.courtesy.removal(s.cfg.Now().Sub(began), pause, newest > aim)
		if rows < compactBurst*s.cfg.CompactionRows || rest == 0 && ctx.Err() == nil {
			continue
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return nil
		}
	}
}

// work grows with everything that is applied or read.
func (s *Server) work() uint64 { return s.replica.Status().Applied + s.keys.Ranges() }

func (s *Server) compactStep(rows int) (done bool, err error) {
	scheduled, finished := s.keys.Compaction()
	began := s.cfg.Now()
	done, err = s.keys.CompactStep(rows)
	if err != nil {
		return false, fmt.Errorf("compact the history: %w", err)
	}
	if scheduled != finished {
		s.seen.compactionStep(began, done)
	}
	if done && scheduled != finished {
		s.log.Info("finished scheduled compaction", "compact-revision", int64(scheduled), "last-step-took", s.cfg.Now().Sub(began))
	}
	return done, nil
}

// recallPiece is how many keys are looked at at once: 0.3 ms.
const recallPiece = 1000

// recallPace is how much longer that takes than the rest behind it.
const recallPace = 4

// recallKeys lets the applier know how all keys stand, soon after the start: a million of them take half a second of a core. Beside
// requests it rests a little: as long as it lasts, they cost twice as much. Then it looks now and again whether they have been forgotten.
func (s *Server) recallKeys(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.UpkeepInterval)
	defer tick.Stop()
	for {
		if err := s.recallAll(ctx); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// recallAll goes on until all keys are known that there is room for.
func (s *Server) recallAll(ctx context.Context) error {
	began := s.cfg.Now()
	if done, err := s.keys.RecallStep(recallPiece); done || err != nil {
		return err
	}
	if err := s.recallRest(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	debug.FreeOSMemory() // as much again as is kept was read, and a member may have nothing else to do for long
	s.log.Debug("recalled how keys stand", "keys", s.keys.Keys(), "took", s.cfg.Now().Sub(began))
	return nil
}

func (s *Server) recallRest(ctx context.Context) error {
	release, err := s.store.Spare() // what is read is not read again
	if err != nil {
		return err
	}
	defer release()
	for before := s.work(); ctx.Err() == nil; {
		piece := s.cfg.Now()
		if done, err := s.keys.RecallStep(recallPiece); done || err != nil {
			return err
		}
		if work := s.work(); work != before {
			before = work
			select {
			case <-time.After(s.cfg.Now().Sub(piece) / recallPace):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// reclaimSpace gives the space of removed revisions back to the file system once a compaction is complete. The store would come
// to it by itself, but not to all of it.
func (s *Server) reclaimSpace(ctx context.Context) error {
	for {
		select {
		case <-s.reclaimable:
		case <-ctx.Done():
			return nil
		}
		if err := s.keys.Reclaim(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// segmentsMax is how many files the log may have before it is released early, whatever the number of entries: with large
// values SnapshotEvery entries alone would take gigabytes.
const segmentsMax = 8

// flushAndRelease makes the store durable when enough has changed or enough time has passed, lets go of what reads keep from going, and gives back the
// part of the log that the durable store no longer needs. When the disk becomes low it does both at once: most of what can be given
// back without losing anything lies in the log.
func (s *Server) flushAndRelease(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.UpkeepInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.flushable:
		case <-s.space.lowered:
		case <-ctx.Done():
			return nil
		}
		s.brake.set(s.store.Behind())
		if err := s.store.LetGo(); err != nil {
			return fmt.Errorf("end what waits for reads: %w", err)
		}
		if err := s.catchUp.giveUpUnwanted(ctx); err != nil {
			return err
		}
		if err := s.flushDue(); err != nil {
			return err
		}
		durable, err := s.store.Durable()
		if err != nil {
			return err
		}
		if !s.releaseDue(durable.Index) {
			continue
		}
		if err := s.release(ctx, durable); err != nil {
			return err
		}
		s.released = durable.Index
	}
}

// flushDue makes the store durable if that is due.
func (s *Server) flushDue() error {
	durable, err := s.store.Durable()
	if err != nil {
		return err
	}
	behind := s.replica.Status().Applied > uint64(durable.Index)
	// A store that shows no entry is that of a member to be founded. One that is founded must not be taken for it for long:
	// without its log, on a disk that was not mounted perhaps, it would begin anew.
	young := behind && durable.Index == 0
	if !young && !s.store.FlushDue(s.cfg.Now()) && !(behind && s.space.low.Load()) {
		return nil
	}
	if err := s.store.Flush(); err != nil {
		return fmt.Errorf("make the store durable: %w", err)
	}
	return nil
}

// short tells that the log is to be kept short: it has many files, or the disk is low.
func (s *Server) short() bool {
	return s.raftLog.Stats().Segments > segmentsMax || s.space.low.Load()
}

// releaseDue tells whether the log is to be released below the durable index.
func (s *Server) releaseDue(durable kv.Index) bool {
	if durable >= s.released+kv.Index(s.cfg.SnapshotEvery) {
		return true
	}
	return durable > s.released && s.short()
}

// release gives the log free below the durable applied index, but for the entries kept for members slightly behind. First
// the log is told, durably, where its reader may begin.
func (s *Server) release(ctx context.Context, durable storage.Applied) error {
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(durable.ConfState, conf); err != nil {
		return fmt.Errorf("read the raft configuration of entry %d: %w", durable.Index, err)
	}
	err := s.replica.Checkpoint(ctx, &raftpb.SnapshotMetadata{
		Index: proto.Uint64(uint64(durable.Index)), Term: proto.Uint64(uint64(durable.Term)), ConfState: conf,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("note in the raft log that entry %d is durable: %w", durable.Index, err)
	}
	keep := uint64(durable.Index)
	if !s.short() {
		keep -= min(keep, s.cfg.CatchUpEntries)
	}
	if lowest, any := s.catchUp.flying.lowest(); any && !s.space.low.Load() {
		keep = min(keep, uint64(lowest))
	}
	record := raftlog.SnapshotRecord{Index: uint64(durable.Index), Term: uint64(durable.Term), ConfState: conf}
	removed, err := s.raftLog.Release(record, keep+1)
	if err != nil {
		return err
	}
	s.replica.Compact(keep)
	s.log.Info("released the raft log", "durable-index", durable.Index, "kept-from", keep+1, "segments-removed", removed)
	return nil
}

// Defragment has nothing to do: the store gives space back by itself, whether it is asked to or not.
func (s *Server) Defragment(context.Context) error {
	s.seen.defrags.Took(0)
	s.log.Info("finished defragmenting directory", "current-db-size-bytes", max(s.store.Size(), s.keys.SizeInUse()),
		"current-db-size-in-use-bytes", s.keys.SizeInUse(), "took", time.Duration(0))
	return nil
}

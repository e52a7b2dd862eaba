package storage

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// listener turns Pebble's reports into log lines, the flush state and the one fatal call. Pebble calls it with its
// locks held, so nothing here reads the database.
func (s *Store) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: s.backgroundError,
		DataCorruption:  func(i pebble.DataCorruptionInfo) { s.fail(fmt.Errorf("data corruption: %s", i.String())) },
		FlushEnd: func(i pebble.FlushInfo) {
			s.flush.stale.Store(true)
			s.log.Debug("store flush", "info", i.String())
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			if vfs.IsNoSpaceError(i.Err) {
				s.cramped.Store(&i.Err)
			}
			s.log.Debug("store compaction", "info", i.String())
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) { s.log.Warn("store stalls writes", "reason", i.Reason) },
		WriteStallEnd:   func() { s.log.Warn("store takes writes again") },
		// The versions and revisions tables know no range deletions, so for them this is never a false alarm.
		PossibleAPIMisuse: func(i pebble.PossibleAPIMisuseInfo) {
			s.misuses.Add(1)
			s.log.Error("store: a row was not written and removed exactly once", "info", i.String())
		},
		DiskSlow: func(i pebble.DiskSlowInfo) { s.log.Warn("store: slow disk", "info", i.String()) },
	}
}

// backgroundError ends the store, unless all that happened is that a compaction found no room on the disk: that only puts off
// giving space back, and Pebble tries again after half a minute. A flush without room is fatal, for Pebble would
// repeat it without a pause.
func (s *Store) backgroundError(err error) {
	if cramped := s.cramped.Swap(nil); cramped != nil && errors.Is(err, *cramped) {
		s.log.Warn("store: no room on the disk to compact tables; it is tried again", "error", err)
		return
	}
	s.fail(err)
}

// pebbleLogger is the Logger of Pebble.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.s.log.Debug(fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.Error(fmt.Sprintf(format, args...))
}

// Fatalf reports the error and ends its goroutine. Pebble counts on it not to return: what follows in its code would work
// on a broken state. Ending the goroutine lets go of the locks that it has deferred to unlock: kept for ever, they would
// hold up whoever flushes or reads at that moment, and with it the stop of the member. Ending the process is left to
// the program around us.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.s.stick() // first: who hears of the failure may close the store at once
	l.s.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

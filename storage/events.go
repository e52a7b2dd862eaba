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
func (g *generation) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: g.backgroundError,
		DataCorruption:  func(i pebble.DataCorruptionInfo) { g.fail(fmt.Errorf("data corruption: %s", i.String())) },
		FlushBegin:      func(pebble.FlushInfo) { g.flush.pebbleBegins() },
		FlushEnd: func(i pebble.FlushInfo) {
			g.flush.stale.Store(true)
			g.flush.pebbleEnds(i.Err == nil)
			g.log.Debug("store flush", "info", i.String())
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			if vfs.IsNoSpaceError(i.Err) {
				g.cramped.Store(&i.Err)
			}
			g.log.Debug("store compaction", "info", i.String())
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) { g.log.Warn("store stalls writes", "reason", i.Reason) },
		WriteStallEnd:   func() { g.log.Warn("store takes writes again") },
		// The versions and revisions tables know no range deletions, so for them this is never a false alarm.
		PossibleAPIMisuse: func(i pebble.PossibleAPIMisuseInfo) {
			g.misuses.Add(1)
			g.log.Error("store: a row was not written and removed exactly once", "info", i.String())
		},
		DiskSlow: func(i pebble.DiskSlowInfo) { g.log.Warn("store: slow disk", "info", i.String()) },
	}
}

// backgroundError ends the store, unless all that happened is that a compaction found no room on the disk: that only puts off
// giving space back, and Pebble tries again after half a minute. A flush without room is fatal, for Pebble would
// repeat it without a pause.
func (g *generation) backgroundError(err error) {
	if cramped := g.cramped.Swap(nil); cramped != nil && errors.Is(err, *cramped) {
		g.log.Warn("store: no room on the disk to compact tables; it is tried again", "error", err)
		return
	}
	g.fail(err)
}

// pebbleLogger is the Logger of Pebble.
type pebbleLogger struct{ g *generation }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.g.log.Debug(fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.g.log.Error(fmt.Sprintf(format, args...))
}

// Fatalf reports the error and ends its goroutine. Pebble counts on it not to return: what follows in its code would work
// on a broken state. Ending the goroutine lets go of the locks that it has deferred to unlock: kept for ever, they would
// hold up whoever flushes or reads at that moment, and with it the stop of the member. Ending the process is left to
// the program around us.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.g.stick() // first: who hears of the failure may close the store at once
	l.g.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// listener turns Pebble's reports into log lines, the flush state and the one fatal call. Pebble calls it with its
// locks held, so nothing here reads the database.
func (s *Store) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { s.fail(err) },
		DataCorruption:  func(i pebble.DataCorruptionInfo) { s.fail(fmt.Errorf("data corruption: %s", i.String())) },
		FlushEnd: func(i pebble.FlushInfo) {
			s.flush.stale.Store(true)
			s.log.Debug("store flush", "info", i.String())
		},
		CompactionEnd:   func(i pebble.CompactionInfo) { s.log.Debug("store compaction", "info", i.String()) },
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

// pebbleLogger is the Logger of Pebble.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.s.log.Debug(fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.Error(fmt.Sprintf(format, args...))
}

// Fatalf reports the error and then keeps its goroutine for ever. Pebble counts on it not to return: what follows in
// its code would work on a broken state, with its locks held. Ending the process is left to the program around us.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.s.stick() // first: who hears of the failure may close the store at once
	l.s.fail(fmt.Errorf(format, args...))
	select {}
}

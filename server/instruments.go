package server

import (
	"time"

	"holdfast/metrics"
)

// instruments are what a member counts as it happens. What parts count by themselves is in their Stats.
type instruments struct {
	logWritten, logSynced *metrics.Histogram
}

func newInstruments(set *metrics.Set) *instruments {
	return &instruments{
		logWritten: set.Histogram(metrics.WALWriteDuration), logSynced: set.Histogram(metrics.WALSyncDuration),
	}
}

// Wrote implements raftlog.Observer.
func (i *instruments) Wrote(_ int, took time.Duration) { i.logWritten.Took(took) }

// Synced implements raftlog.Observer.
func (i *instruments) Synced(took time.Duration) { i.logSynced.Took(took) }

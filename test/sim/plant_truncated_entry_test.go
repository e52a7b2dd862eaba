//go:build plant_truncated_entry || plant_all

package sim

import "holdfast/raftlog"

// The mistake truncated-entry takes the last entry of a log for torn, although it is whole.
func init() { plants["truncated-entry"] = slips{recovered: truncate} }

func truncate(l *life, rec *raftlog.Recovered) {
	n := len(rec.Entries)
	if n == 0 || rec.Last-1 < uint64(l.store.Applied().Index) {
		return
	}
	rec.Entries, rec.Last = rec.Entries[:n-1], rec.Last-1
	rec.State.Commit = min(rec.State.Commit, rec.Last)
}

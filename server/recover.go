package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/membership"
)

// Recovery makes a new cluster out of what the loss of a majority has left. It takes the survivor that has the most: the one whose
// last entry has the highest term, and of those with the same the highest index. By raft's rules its log has every entry of any
// survivor that was ever committed (raft dissertation, sections 3.6.1 and 3.6.3), so its whole log is kept: an entry that nobody
// left knows to be committed may have been acknowledged.
type Recovery struct {
	FS vfs.FS // nil is the operating system's
	// Survivors are the data directories that are left. Nothing in them is changed.
	Survivors []Survivor
	// Into says what is to be made. With DryRun it is put together, to know what it would be, and removed again.
	Into   Refounding
	DryRun bool
	// Copied, if set, is told of the bytes of the stores as they are copied.
	Copied func(bytes int64)
	Log    *slog.Logger
}

// Survivor is a member that is left, by its directories.
type Survivor struct {
	DataDir, WALDir string
	LogState
	// Revision is that of the keys if its whole log is carried out.
	Revision kv.Revision
}

// Recovered says what a recovery found and made.
type Recovered struct {
	Survivors []Survivor
	Chosen    int // among them
	// Committed is the last entry that any survivor knows to be committed, CommittedRevision the revision after it. What lies
	// between it and Revision, that after the whole log, may never have been acknowledged.
	Committed                   uint64
	CommittedRevision, Revision kv.Revision
	// NewRevision is that of the new cluster; everything up to it is compacted.
	NewRevision kv.Revision
	// Members are those of the old cluster by the whole log of the chosen one; Alarms are still in force.
	Members []membership.Member
	Alarms  []membership.Alarm
	// Voters is how many members of the old cluster had a vote, VotersLeft how many of them are among the survivors. Where these are
	// a majority, everything that was acknowledged is there.
	Voters, VotersLeft int
	ClusterID          uint64 // of the new cluster
}

// Complete tells whether the survivors are a majority.
func (r *Recovered) Complete() bool { return r.VotersLeft > r.Voters/2 }

// Run recovers.
func (r Recovery) Run() (*Recovered, error) {
	found := &Recovered{ClusterID: clusterOf(r.Into.Founders)}
	var err error
	if found.Survivors, found.Chosen, err = r.Survey(); err != nil {
		return nil, err
	}
	if found.ClusterID == found.Survivors[0].ClusterID {
		return nil, fmt.Errorf("the new cluster would have the id of the old one, %x, and whoever is left of that could meddle: choose another --initial-cluster-token", found.ClusterID)
	}
	work, err := WorkFor(r.FS, r.Into)
	if err != nil {
		return nil, err
	}
	if err := r.fill(found, work); err != nil || r.DryRun {
		disk := cmp.Or(r.FS, vfs.Default)
		return found, errors.Join(err, disk.RemoveAll(unfinishedDir(r.Into.DataDir)))
	}
	return found, nil
}

// Survey reads the logs alone, asks that they are of one cluster, and chooses.
func (r Recovery) Survey() (all []Survivor, chosen int, err error) {
	if len(r.Survivors) == 0 {
		return nil, 0, errors.New("name the data directories that are left")
	}
	all = slices.Clone(r.Survivors)
	for i := range all {
		s := &all[i]
		if s.LogState, err = ReadLog(r.FS, s.DataDir, s.WALDir); err != nil {
			return nil, 0, fmt.Errorf("%w; to go on without this directory, do not name it: what it alone holds is lost then", err)
		}
		for _, other := range all[:i] {
			switch {
			case other.ClusterID != s.ClusterID:
				return nil, 0, fmt.Errorf("%s is of cluster %x, %s of cluster %x: they have nothing in common", other.DataDir, other.ClusterID, s.DataDir, s.ClusterID)
			case other.Member == s.Member:
				return nil, 0, fmt.Errorf("%s and %s are both of member %v: name the newer one", other.DataDir, s.DataDir, s.Member)
			}
		}
		if s.newer(all[chosen]) {
			chosen = i
		}
	}
	return all, chosen, nil
}

// newer compares as an election does; of two that are equal the first one stays.
func (s Survivor) newer(than Survivor) bool {
	return s.LastTerm > than.LastTerm || s.LastTerm == than.LastTerm && s.Last > than.Last
}

// fill carries out what the survivors have, and makes the new directory of the chosen one's state.
func (r Recovery) fill(found *Recovered, work string) error {
	for i := range found.Survivors {
		if i == found.Chosen {
			continue
		}
		if err := r.look(&found.Survivors[i], fmt.Sprintf("%s-%d", work, i)); err != nil {
			return err
		}
	}
	chosen := &found.Survivors[found.Chosen]
	o, err := OpenOffline(OfflineConfig{FS: r.FS, DataDir: chosen.DataDir, WALDir: chosen.WALDir, Work: work, Copied: r.Copied, Log: r.Log})
	if err != nil {
		return err
	}
	if err := r.take(o, found); err != nil {
		return errors.Join(err, o.Close())
	}
	return nil
}

// look finds out what a survivor has that is not chosen.
func (r Recovery) look(s *Survivor, work string) (err error) {
	o, err := OpenOffline(OfflineConfig{FS: r.FS, DataDir: s.DataDir, WALDir: s.WALDir, Work: work, Link: true, Copied: r.Copied, Log: r.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close(), o.cfg.FS.RemoveAll(work)) }()
	if err := o.Apply(o.State().Last); err != nil {
		return fmt.Errorf("carry out the log of %s: %w", s.DataDir, err)
	}
	s.LogState, s.Revision = o.State(), o.Revision()
	return nil
}

// take carries out the log of the chosen survivor, in two pieces, and refounds.
func (r Recovery) take(o *Offline, found *Recovered) error {
	chosen := &found.Survivors[found.Chosen]
	chosen.LogState = o.State()
	for _, s := range found.Survivors {
		found.Committed = max(found.Committed, s.Committed)
	}
	if found.Committed > chosen.Last {
		return fmt.Errorf("entry %d is known to be committed, but the newest log (%s) ends with entry %d: this cannot be of one cluster that works as it should; recover from one directory alone",
			found.Committed, chosen.DataDir, chosen.Last)
	}
	if err := o.Apply(found.Committed); err != nil {
		return fmt.Errorf("carry out the log of %s: %w", chosen.DataDir, err)
	}
	found.CommittedRevision = o.Revision()
	if err := o.Apply(chosen.Last); err != nil {
		return fmt.Errorf("carry out the log of %s: %w", chosen.DataDir, err)
	}
	found.Revision, chosen.Revision = o.Revision(), o.Revision()
	found.NewRevision = found.Revision + kv.Revision(r.Into.Bump)
	found.Members, found.Alarms = o.cluster.Members(), o.cluster.Alarms(membership.AlarmNone)
	for _, m := range found.Members {
		if m.IsLearner {
			continue
		}
		found.Voters++
		if slices.ContainsFunc(found.Survivors, func(s Survivor) bool { return s.Member == m.ID }) {
			found.VotersLeft++
		}
	}
	if r.DryRun {
		return o.Close()
	}
	return o.Refound(r.Into)
}

func clusterOf(founders []membership.Member) uint64 {
	cfg := Config{Founders: founders}
	return cfg.clusterID()
}

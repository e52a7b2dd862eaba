package utl

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/ctl/term"
	"holdfast/membership"
	"holdfast/server"
)

// recovery is one call of "recover".
type recovery struct {
	dataDir, walDir string
	first           founding
	bump            uint64
	dryRun          bool
}

func (t *tool) recoverCommand() *cobra.Command {
	var r recovery
	c := &cobra.Command{
		Use:   "recover <data directory>[=<wal directory>]... --data-dir <new directory> [options]",
		Short: "Makes a new cluster of what the loss of a majority has left",
		Long: `Makes a new cluster of the data directories that are left when a majority of the members is lost for good. Name all of them: the
more there are, the less is lost. Their members must be stopped; they may be etcd's. Nothing in them is changed, so keep them until all is well again.

It shows for each how far its log goes, and takes the one that is ahead by raft's rule (highest last term, then highest last index):
its log has everything of the others that was ever committed. The whole log is kept. Members, cluster id and member ids are new, the revision
is raised and all before it is compacted, so that clients cannot take something new for something old.

By default the new cluster has one member; start it and add others with "member add". With --initial-cluster it has several: run
this once for each of them, with the same directories and another --name and --data-dir.`,
		Example: "  " + t.name() + " recover /backup/m1.etcd /backup/m3.etcd --data-dir /var/lib/holdfast --dry-run\n" +
			"  " + t.name() + " recover /backup/m1.etcd /backup/m3.etcd=/backup/m3.wal --data-dir /var/lib/holdfast \\\n" +
			"    --name m1 --initial-cluster m1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380",
		Args: cobra.MinimumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error { return t.recover(cmd, r, args) }),
	}
	f := c.Flags()
	f.StringVar(&r.dataDir, "data-dir", "", "the new data directory; it must not exist")
	f.StringVar(&r.walDir, "wal-dir", "", "the new directory of the raft log (default: in --data-dir)")
	f.Uint64Var(&r.bump, "bump-revision", bumpDefault, "how much to raise the revision")
	f.BoolVar(&r.dryRun, "dry-run", false, "show what would come of it, and make nothing")
	r.first.declare(c)
	must(c.MarkFlagRequired("data-dir"))
	must(c.MarkFlagDirname("data-dir"))
	must(c.MarkFlagDirname("wal-dir"))
	return c
}

func (t *tool) recover(cmd *cobra.Command, r recovery, args []string) error {
	if t.format != "simple" && t.format != "json" {
		return coded{exitBadFeature, fmt.Errorf("recover has no output format %q, only simple and json", t.format)}
	}
	if r.bump == 0 {
		return coded{exitBadArgs, errors.New("--bump-revision must be greater than 0: clients would take new revisions for old ones")}
	}
	work := server.Recovery{DryRun: r.dryRun, Log: logger(cmd)}
	for _, arg := range args {
		dir, wal, _ := strings.Cut(arg, "=")
		work.Survivors = append(work.Survivors, server.Survivor{DataDir: filepath.Clean(dir), WALDir: wal})
	}
	named := slices.Clone(work.Survivors)
	imported, err := r.importEtcds(cmd.Context(), work.Survivors)
	defer func() { // it is a copy, and what is made does not rest on it
		if gone := os.RemoveAll(imported); gone != nil {
			work.Log.Warn("could not remove what was imported from etcd", "dir", imported, "error", gone)
		}
	}()
	if err != nil {
		return err
	}
	all, chosen, err := work.Survey()
	if err != nil {
		return err
	}
	if r.first.token == "" { // another one for each end of a cluster, and the same for all members of the new one
		r.first.token = fmt.Sprintf("recovered-%x-%d-%d", all[chosen].ClusterID, all[chosen].LastTerm, all[chosen].Last)
	}
	founders, self, err := r.first.founders()
	if err != nil {
		return err
	}
	work.Into = server.Refounding{DataDir: filepath.Clean(r.dataDir), WALDir: r.walDir, Founders: founders, Self: self.ID, Bump: r.bump}
	found, err := work.Run()
	if err != nil {
		return err
	}
	for i := range found.Survivors {
		found.Survivors[i].DataDir = named[i].DataDir
	}
	if t.format == "json" {
		return showRecoveredJSON(cmd.OutOrStdout(), found, work)
	}
	return showRecovered(cmd.OutOrStdout(), found, work, self)
}

// importEtcds makes directories of ours, beside the new one, of those that are etcd's, which are only read. It returns where they are.
func (r *recovery) importEtcds(ctx context.Context, survivors []server.Survivor) (place string, err error) {
	place = filepath.Clean(r.dataDir) + ".import"
	for i := range survivors {
		s := &survivors[i]
		if _, err := os.Stat(filepath.Join(s.DataDir, "member", "snap", "db")); err != nil {
			continue // it is ours, or nothing; which, Survey says
		}
		to := filepath.Join(place, fmt.Sprint(i))
		if err := os.RemoveAll(to); err != nil {
			return place, fmt.Errorf("remove what an earlier try left: %w", err)
		}
		if err := os.MkdirAll(place, 0o700); err != nil {
			return place, err
		}
		if err := (server.TakeOver{From: s.DataDir, FromWAL: s.WALDir, To: to, Log: nothing}).Run(ctx); err != nil {
			return place, fmt.Errorf("read the etcd in %s: %w", s.DataDir, err)
		}
		s.DataDir, s.WALDir = to, ""
	}
	return place, nil
}

// showRecovered says what was found, what is kept, what cannot be known, and what to do next.
func showRecovered(out io.Writer, found *server.Recovered, work server.Recovery, self membership.Member) error {
	paint := term.PaintFor(out, os.Getenv)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tdata directory\tmember\tlast term\tlast index\tknown committed\trevision\t")
	for i, s := range found.Survivors {
		mark := ""
		if i == found.Chosen {
			mark = "taken"
		}
		fmt.Fprintf(table, "%s\t%s\t%v\t%d\t%d\t%d\t%d\t\n", mark, s.DataDir, s.Member, s.LastTerm, s.Last, s.Committed, int64(s.Revision))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	chosen := found.Survivors[found.Chosen]
	fmt.Fprintf(out, "\nKnown to be committed: everything up to revision %d (entry %d).\n", int64(found.CommittedRevision), found.Committed)
	switch {
	case found.Revision > found.CommittedRevision:
		fmt.Fprintf(out, "%s revisions %d to %d (entries %d to %d), which may never have been acknowledged to anybody.\n", paint.Bold("Kept as well:"),
			int64(found.CommittedRevision)+1, int64(found.Revision), found.Committed+1, chosen.Last)
	case chosen.Last > found.Committed:
		fmt.Fprintf(out, "Kept as well: entries %d to %d, which change no key.\n", found.Committed+1, chosen.Last)
	default:
		fmt.Fprintln(out, "There is nothing beyond that.")
	}
	if found.Complete() {
		fmt.Fprintf(out, "%d of %d voting members are left, a majority: everything that was ever acknowledged is here. They could also be started as they are.\n", found.VotersLeft, found.Voters)
	} else {
		fmt.Fprintf(out, "%s %d of %d voting members left: writes that were acknowledged and that only the lost members had cannot be known. They are not here.\n",
			paint.Bad("Perhaps lost:"), found.VotersLeft, found.Voters)
	}
	for _, a := range found.Alarms {
		fmt.Fprintf(out, "Alarm %v of member %v stays in force; see alarm list and alarm disarm.\n", a.Type, a.Member)
	}
	if work.DryRun {
		fmt.Fprintf(out, "\nNothing was made. The new cluster %x would begin in %s at revision %d.\n", found.ClusterID, work.Into.DataDir, int64(found.NewRevision))
		return nil
	}
	fmt.Fprintf(out, "\n%s cluster %x, member %s (%v), revision %d, all before it compacted.\nStart it: holdfast --name %s --data-dir %s --listen-peer-urls %s --initial-advertise-peer-urls %[7]s ...\n",
		paint.Good("Made in "+work.Into.DataDir+":"), found.ClusterID, self.Name, self.ID, int64(found.NewRevision), self.Name, work.Into.DataDir, strings.Join(self.PeerURLs, ","))
	return nil
}

// showRecoveredJSON says the same for programs.
func showRecoveredJSON(out io.Writer, found *server.Recovered, work server.Recovery) error {
	type survivor struct {
		DataDir   string `json:"dataDir"`
		Member    string `json:"member"`
		LastTerm  uint64 `json:"lastTerm"`
		LastIndex uint64 `json:"lastIndex"`
		Committed uint64 `json:"committed"`
		Revision  int64  `json:"revision"`
		Taken     bool   `json:"taken"`
	}
	answer := struct {
		Survivors         []survivor `json:"survivors"`
		Committed         uint64     `json:"committed"`
		CommittedRevision int64      `json:"committedRevision"`
		Revision          int64      `json:"revision"`
		NewRevision       int64      `json:"newRevision"`
		ClusterID         string     `json:"clusterID"`
		Voters            int        `json:"voters"`
		VotersLeft        int        `json:"votersLeft"`
		Made              bool       `json:"made"`
	}{
		Committed: found.Committed, CommittedRevision: int64(found.CommittedRevision), Revision: int64(found.Revision), NewRevision: int64(found.NewRevision),
		ClusterID: fmt.Sprintf("%x", found.ClusterID), Voters: found.Voters, VotersLeft: found.VotersLeft, Made: !work.DryRun,
	}
	for i, s := range found.Survivors {
		answer.Survivors = append(answer.Survivors, survivor{s.DataDir, s.Member.String(), s.LastTerm, s.Last, s.Committed, int64(s.Revision), i == found.Chosen})
	}
	return json.NewEncoder(out).Encode(answer)
}

// founding is what flags say of a new cluster and of the member that a directory is for.
type founding struct{ name, cluster, token, peerURLs string }

func (n *founding) declare(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&n.name, "name", "default", "name of the member")
	f.StringVar(&n.cluster, "initial-cluster", "default=http://localhost:2380", "members of the new cluster")
	f.StringVar(&n.token, "initial-cluster-token", "", "part of the new ids (default: made of the old cluster's id and how far its log goes)")
	f.StringVar(&n.peerURLs, "initial-advertise-peer-urls", "http://localhost:2380", "peer URLs of the member, as in --initial-cluster")
}

// founders are the members of the new cluster, in the order of their ids, and the one that the directory is for.
func (n *founding) founders() (all []membership.Member, self membership.Member, err error) {
	all, err = restore{name: n.name, cluster: n.cluster, token: n.token, peerURLs: n.peerURLs}.founders()
	if err != nil {
		return nil, self, err
	}
	slices.SortFunc(all, func(a, b membership.Member) int { return cmp.Compare(a.ID, b.ID) })
	return all, all[slices.IndexFunc(all, func(m membership.Member) bool { return m.Name == n.name })], nil
}

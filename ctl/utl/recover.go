package utl

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/ctl/exit"
	"holdfast/ctl/output"
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
	if r.bump == 0 {
		return exit.Misuse("--bump-revision must be greater than 0: clients would take new revisions for old ones")
	}
	paint := term.PaintFor(cmd.OutOrStdout(), os.Getenv)
	return t.showDone(cmd, func() (output.Report, error) {
		found, err := r.run(cmd, args)
		if err != nil {
			return output.Report{}, err
		}
		return found.report(paint), nil
	})
}

// run recovers from the directories that the arguments name.
func (r recovery) run(cmd *cobra.Command, args []string) (done recovered, err error) {
	bar := term.NewProgress(cmd.ErrOrStderr(), "recover", 0, term.Bytes)
	defer bar.Done()
	work := server.Recovery{DryRun: r.dryRun, Copied: bar.Add, Log: logger(cmd)}
	var total int64
	for _, arg := range args {
		dir, wal, _ := strings.Cut(arg, "=")
		s := server.Survivor{DataDir: filepath.Clean(dir), WALDir: wal}
		work.Survivors = append(work.Survivors, s)
		total += storedBytes(s.DataDir)
	}
	bar.SetTotal(total)
	named := slices.Clone(work.Survivors)
	imported, err := r.importEtcds(cmd.Context(), work.Survivors, bar.Add)
	defer func() { // it is a copy, and what is made does not rest on it
		if gone := os.RemoveAll(imported); gone != nil {
			work.Log.Warn("could not remove what was imported from etcd", "dir", imported, "error", gone)
		}
	}()
	if err != nil {
		return done, err
	}
	all, chosen, err := work.Survey()
	if err != nil {
		return done, err
	}
	if r.first.token == "" { // another one for each end of a cluster, and the same for all members of the new one
		r.first.token = fmt.Sprintf("recovered-%x-%d-%d", all[chosen].ClusterID, all[chosen].LastTerm, all[chosen].Last)
	}
	founders, self, err := r.first.founders()
	if err != nil {
		return done, err
	}
	work.Into = server.Refounding{DataDir: filepath.Clean(r.dataDir), WALDir: r.walDir, Founders: founders, Self: self.ID, Bump: r.bump}
	found, err := work.Run()
	if err != nil {
		return done, err
	}
	for i := range found.Survivors {
		found.Survivors[i].DataDir = named[i].DataDir
	}
	return recovered{found, work, self}, nil
}

// storedBytes is about how much of a directory is going to be read, for the bar alone: what cannot be read is told by whoever needs it.
func storedBytes(dataDir string) (total int64) {
	_ = filepath.WalkDir(filepath.Join(dataDir, "member"), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if e.IsDir() && (e.Name() == "wal" || e.Name() == "tmp") {
			return fs.SkipDir
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}

// importEtcds makes directories of ours, beside the new one, of those that are etcd's, which are only read. It returns where they are.
func (r *recovery) importEtcds(ctx context.Context, survivors []server.Survivor, imported func(int64)) (place string, err error) {
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
		if err := (server.TakeOver{From: s.DataDir, FromWAL: s.WALDir, To: to, Imported: imported, Log: nothing}).Run(ctx); err != nil {
			return place, fmt.Errorf("read the etcd in %s: %w", s.DataDir, err)
		}
		s.DataDir, s.WALDir = to, ""
	}
	return place, nil
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

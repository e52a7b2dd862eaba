package utl

import (
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/ctl/exit"
	"holdfast/ctl/term"
	"holdfast/etcdfile"
	"holdfast/server"
)

func (t *tool) importData() *cobra.Command {
	var (
		take    server.TakeOver
		inPlace bool
	)
	cmd := &cobra.Command{
		Use:   "import <etcd data directory> --data-dir {output dir}",
		Short: "Makes a data directory of Holdfast from an etcd's",
		Long: `Makes the data directory of a member of Holdfast that goes on where the etcd in another one stopped: the same member of the
same cluster, with its keys, their history, and its raft log. The etcd must be stopped, and must not be started again once the
member runs: there would be two of it.

With --in-place the etcd's directory itself becomes Holdfast's. "` + t.name() + ` export" is the way back.`,
		Example: "  " + t.name() + " import default.etcd --data-dir holdfast.etcd\n  " + t.name() + " import --in-place /var/lib/etcd",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if inPlace == (take.To != "") {
				return exit.Misuse("import wants either --data-dir, for a new directory, or --in-place")
			}
			if inPlace && take.ToWAL != "" {
				return exit.Misuse("--wal-dir has no meaning with --in-place: the raft log stays where it is, --from-wal-dir says where")
			}
			take.From = args[0]
			return t.takeOver(cmd, take)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&take.To, "data-dir", "", "Path to the output data directory, which must be empty or not exist")
	f.StringVar(&take.ToWAL, "wal-dir", "", "Path to the output WAL directory (within --data-dir if none given)")
	f.StringVar(&take.FromWAL, "from-wal-dir", "", "Path to the etcd's WAL directory (within its data directory if none given)")
	f.BoolVar(&inPlace, "in-place", false, "Make the etcd's directory itself Holdfast's")
	for _, name := range []string{"data-dir", "wal-dir", "from-wal-dir"} {
		must(cmd.MarkFlagDirname(name))
	}
	return cmd
}

func (t *tool) takeOver(cmd *cobra.Command, take server.TakeOver) error {
	database := filepath.Join(take.From, "member", "snap", "db")
	info, err := os.Stat(database)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	log := logger(cmd)
	bar := term.NewProgress(cmd.ErrOrStderr(), "import", info.Size(), term.Bytes)
	take.Imported, take.Log = bar.Add, nothing
	err = t.wait(etcdfile.ErrInUse, func() error { return take.Run(ctx) })
	bar.Done()
	if err != nil {
		return err
	}
	to := take.To
	if to == "" {
		to = take.From
	}
	log.Info("imported an etcd data directory", "from", take.From, "data-dir", to)
	return nil
}

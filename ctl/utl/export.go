package utl

import (
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"holdfast/ctl/term"
	"holdfast/server"
)

func (t *tool) exportData() *cobra.Command {
	var x server.ExportEtcd
	cmd := &cobra.Command{
		Use:   "export <holdfast data directory> --data-dir {output dir}",
		Short: "Makes an etcd's data directory from one of Holdfast",
		Long: `Makes a data directory from which an etcd of version 3.7 goes on where the member in another one stopped: the same member of
the same cluster, with its keys, their history, and its raft log. The member must be stopped, and must not be started again once the
etcd runs: there would be two of it. Its own directory is only read.`,
		Example: "  " + t.name() + " export default.etcd --data-dir etcd.etcd",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			x.DataDir = args[0]
			return t.export(cmd, x)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&x.To, "data-dir", "", "Required. Path to the output data directory, which must be empty or not exist")
	f.StringVar(&x.ToWAL, "wal-dir", "", "Path to the output WAL directory (within --data-dir if none given)")
	f.StringVar(&x.WALDir, "from-wal-dir", "", "Path to the member's WAL directory (within its data directory if none given)")
	must(cmd.MarkFlagRequired("data-dir"))
	for _, name := range []string{"data-dir", "wal-dir", "from-wal-dir"} {
		must(cmd.MarkFlagDirname(name))
	}
	return cmd
}

func (t *tool) export(cmd *cobra.Command, x server.ExportEtcd) error {
	if _, err := os.Stat(x.DataDir); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	bar := term.NewProgress(cmd.ErrOrStderr(), "export", 0, term.Bytes)
	x.Copied = bar.Add
	err := t.wait(server.ErrInUse, func() error { return x.Run(ctx) })
	bar.Done()
	if err != nil {
		return err
	}
	logger(cmd).Info("exported an etcd data directory", "from", x.DataDir, "data-dir", x.To)
	return nil
}

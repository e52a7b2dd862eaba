package utl

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"holdfast/ctl/exit"
	"holdfast/ctl/output"
	"holdfast/etcdfile"
	"holdfast/server"
)

// snapshot is the group of commands about snapshots.
func (t *tool) snapshot() *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot <subcommand>", Short: "Manages etcd node snapshots"}
	cmd.AddCommand(t.snapshotStatus(), t.snapshotRestore())
	return cmd
}

func (t *tool) snapshotStatus() *cobra.Command {
	var walDir string
	cmd := &cobra.Command{
		Use:   "status <filename>",
		Short: "Gets backend snapshot status of a given file",
		Long: `When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are hash, revision, total keys, total size.

The whole file is read and checked. Of a data directory the status is that of a snapshot of it.
`,
		Example: "  " + t.name() + " snapshot status backup.db\n  " + t.name() + " snapshot status backup.db -w table\n  " + t.name() + " snapshot status default.etcd",
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return exit.Misuse("snapshot status requires exactly one argument")
			}
			if _, _, err := look(args[0]); err != nil {
				return err
			}
			return t.show(cmd, func() (output.Report, error) {
				return t.view(cmd, args[0], walDir, viewers{databaseStatus, memberStatus})
			})
		}),
	}
	t.walFlag(cmd, &walDir)
	return cmd
}

func databaseStatus(db *etcdfile.Database) (output.Report, error) {
	s, err := db.Status()
	return statusResult(s), err
}

func memberStatus(o *server.Offline) (r output.Report, err error) {
	src, done, err := o.Source(context.Background())
	if err != nil {
		return output.Report{}, err
	}
	defer func() { err = errors.Join(err, done()) }()
	status, err := etcdfile.StatusOf(src)
	return statusResult(status), err
}

func statusResult(s etcdfile.Status) output.Report {
	return output.Report{
		Tables: []output.Table{{
			Columns: []output.Column{{Head: "hash", Name: "Hash"}, {Head: "revision", Name: "Revision"}, {Head: "total keys", Name: "Keys"}, {Head: "total size", Name: "Size"}, {Head: "version", Name: "Version"}},
			Rows: [][]output.Cell{{
				{Text: fmt.Sprintf("%x", s.Hash), Value: s.Hash}, output.Shown(s.Revision), output.Shown(s.Keys),
				{Text: humanize.Bytes(uint64(s.Size)), Value: s.Size}, output.Shown(s.Version),
			}},
		}},
		JSON: struct {
			Hash      uint32 `json:"hash"`
			Revision  int64  `json:"revision"`
			TotalKey  int    `json:"totalKey"`
			TotalSize int64  `json:"totalSize"`
			Version   string `json:"version"`
		}{s.Hash, int64(s.Revision), s.Keys, s.Size, s.Version},
	}
}

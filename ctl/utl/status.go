package utl

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

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
				return coded{exitBadArgs, errors.New("snapshot status requires exactly one argument")}
			}
			if _, _, err := look(args[0]); err != nil {
				return err
			}
			return t.show(cmd, func() (result, error) { return t.view(cmd, args[0], walDir, viewers{databaseStatus, memberStatus}) })
		}),
	}
	t.walFlag(cmd, &walDir)
	return cmd
}

func databaseStatus(db *etcdfile.Database) (result, error) {
	s, err := db.Status()
	return statusResult(s), err
}

func memberStatus(o *server.Offline) (r result, err error) {
	src, done, err := o.Source(context.Background())
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, done()) }()
	status, err := etcdfile.StatusOf(src)
	return statusResult(status), err
}

func statusResult(s etcdfile.Status) result {
	return result{
		fields: []field{
			{"hash", "Hash", fmt.Sprintf("%x", s.Hash), s.Hash},
			{"revision", "Revision", s.Revision.String(), s.Revision},
			{"total keys", "Keys", fmt.Sprint(s.Keys), s.Keys},
			{"total size", "Size", humanize.Bytes(uint64(s.Size)), s.Size},
			{"version", "Version", s.Version, s.Version},
		},
		json: struct {
			Hash      uint32 `json:"hash"`
			Revision  int64  `json:"revision"`
			TotalKey  int    `json:"totalKey"`
			TotalSize int64  `json:"totalSize"`
			Version   string `json:"version"`
		}{s.Hash, int64(s.Revision), s.Keys, s.Size, s.Version},
	}
}

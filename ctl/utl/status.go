package utl

import (
	"errors"
	"fmt"
	"os"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"holdfast/etcdfile"
)

// snapshot is the group of commands about snapshots.
func (t *tool) snapshot() *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot <subcommand>", Short: "Manages etcd node snapshots"}
	cmd.AddCommand(t.snapshotStatus())
	return cmd
}

func (t *tool) snapshotStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status <filename>",
		Short: "Gets backend snapshot status of a given file",
		Long: `When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are hash, revision, total keys, total size.

The whole file is read and checked.
`,
		Example: "  " + t.name() + " snapshot status backup.db\n  " + t.name() + " snapshot status backup.db -w table",
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return coded{exitBadArgs, errors.New("snapshot status requires exactly one argument")}
			}
			if _, err := os.Stat(args[0]); err != nil {
				return err
			}
			return t.show(cmd, func() (result, error) { return t.status(args[0]) })
		}),
	}
}

func (t *tool) status(path string) (r result, err error) {
	db, err := t.openDatabase(path)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s, err := db.Status()
	if err != nil {
		return result{}, err
	}
	return statusResult(s), nil
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

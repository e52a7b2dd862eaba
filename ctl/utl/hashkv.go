package utl

import (
	"errors"

	"github.com/spf13/cobra"

	"holdfast/ctl/output"
	"holdfast/etcdfile"
	"holdfast/kv"
	"holdfast/mvcc"
	"holdfast/server"
)

// The reasons why there is no hash at a revision, in etcd's words.
var (
	errCompacted = errors.New("mvcc: required revision has been compacted")
	errFuture    = errors.New("mvcc: required revision is a future revision")
)

func (t *tool) hashKV() *cobra.Command {
	var (
		rev    int64
		walDir string
	)
	cmd := &cobra.Command{
		Use:     "hashkv <filename>",
		Short:   "Prints the KV history hash of a given file",
		Long:    "Prints what HashKV of a member with this data would answer: hash, hash revision, compact revision.",
		Example: "  " + t.name() + " hashkv backup.db\n  " + t.name() + " hashkv default.etcd --rev 1000",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			at := kv.Revision(rev)
			return t.show(cmd, func() (output.Report, error) {
				return t.view(cmd, args[0], walDir, viewers{
					database: func(db *etcdfile.Database) (output.Report, error) { return hashResult(etcdfile.HashKV(db, at)) },
					member: func(o *server.Offline) (output.Report, error) {
						h, err := o.Keys().HashKV(cmd.Context(), at)
						return hashResult(etcdfile.Hash(h), err)
					},
				})
			})
		}),
	}
	cmd.Flags().Int64Var(&rev, "rev", 0, "maximum revision to hash (default: latest revision)")
	t.walFlag(cmd, &walDir)
	return cmd
}

func hashResult(h etcdfile.Hash, err error) (output.Report, error) {
	switch {
	case errors.Is(err, etcdfile.ErrCompacted), errors.Is(err, mvcc.ErrCompacted):
		return output.Report{}, errCompacted
	case errors.Is(err, etcdfile.ErrFutureRevision), errors.Is(err, mvcc.ErrFutureRevision):
		return output.Report{}, errFuture
	case err != nil:
		return output.Report{}, err
	}
	return output.Report{
		Tables: []output.Table{{
			Columns: []output.Column{{Head: "hash", Name: "Hash"}, {Head: "hash revision", Name: "Hash revision"}, {Head: "compact revision", Name: "Compact revision"}},
			Rows:    [][]output.Cell{{output.Shown(h.Sum), output.Shown(h.Revision), output.Shown(h.Compact)}},
		}},
		JSON: struct {
			Hash            uint32 `json:"hash"`
			HashRevision    int64  `json:"hashRevision"`
			CompactRevision int64  `json:"compactRevision"`
		}{h.Sum, int64(h.Revision), int64(h.Compact)},
	}, nil
}

package utl

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

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
			return t.show(cmd, func() (result, error) {
				return t.view(cmd, args[0], walDir, viewers{
					database: func(db *etcdfile.Database) (result, error) { return hashResult(etcdfile.HashKV(db, at)) },
					member: func(o *server.Offline) (result, error) {
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

func hashResult(h etcdfile.Hash, err error) (result, error) {
	switch {
	case errors.Is(err, etcdfile.ErrCompacted), errors.Is(err, mvcc.ErrCompacted):
		return result{}, errCompacted
	case errors.Is(err, etcdfile.ErrFutureRevision), errors.Is(err, mvcc.ErrFutureRevision):
		return result{}, errFuture
	case err != nil:
		return result{}, err
	}
	return result{
		fields: []field{
			{"hash", "Hash", fmt.Sprint(h.Sum), h.Sum},
			{"hash revision", "Hash revision", h.Revision.String(), h.Revision},
			{"compact revision", "Compact revision", h.Compact.String(), h.Compact},
		},
		json: struct {
			Hash            uint32 `json:"hash"`
			HashRevision    int64  `json:"hashRevision"`
			CompactRevision int64  `json:"compactRevision"`
		}{h.Sum, int64(h.Revision), int64(h.Compact)},
	}, nil
}

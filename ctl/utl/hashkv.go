package utl

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/etcdfile"
	"holdfast/kv"
)

// The reasons why there is no hash at a revision, in etcd's words.
var (
	errCompacted = errors.New("mvcc: required revision has been compacted")
	errFuture    = errors.New("mvcc: required revision is a future revision")
)

func (t *tool) hashKV() *cobra.Command {
	var rev int64
	cmd := &cobra.Command{
		Use:     "hashkv <filename>",
		Short:   "Prints the KV history hash of a given file",
		Long:    "Prints what HashKV of a member with this data would answer: hash, hash revision, compact revision.",
		Example: "  " + t.name() + " hashkv backup.db\n  " + t.name() + " hashkv default.etcd/member/snap/db --rev 1000",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return t.show(cmd, func() (result, error) { return t.hash(args[0], kv.Revision(rev)) })
		}),
	}
	cmd.Flags().Int64Var(&rev, "rev", 0, "maximum revision to hash (default: latest revision)")
	return cmd
}

func (t *tool) hash(path string, rev kv.Revision) (r result, err error) {
	db, err := t.openDatabase(path)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	h, err := etcdfile.HashKV(db, rev)
	switch {
	case errors.Is(err, etcdfile.ErrCompacted):
		return result{}, errCompacted
	case errors.Is(err, etcdfile.ErrFutureRevision):
		return result{}, errFuture
	case err != nil:
		return result{}, err
	}
	return hashResult(h), nil
}

func hashResult(h etcdfile.Hash) result {
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
	}
}

package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

// delPause is how long a range is about to be deleted before it is: as long as etcd's tool waits.
const delPause = 2 * time.Second

// delFlags are those of del, on the command line and in a transaction.
type delFlags struct {
	rangeFlags
	prevKV, rangeMeant bool
}

func (f *delFlags) register(fs *pflag.FlagSet) {
	f.rangeFlags.register(fs, "delete")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "show the pairs that are deleted")
	fs.BoolVar(&f.rangeMeant, "range", false, "delete a range without the pause before it")
}

func (t *tool) del() *cobra.Command {
	var f delFlags
	cmd := &cobra.Command{
		Use:   "del [options] <key> [range_end]",
		Short: "Removes the specified key or range of keys [key, range_end)",
		Long: "Deletes a key, or the range of keys from <key> up to but without [range_end], and says how many there were. " +
			"Before a range it pauses for two seconds, unless --range says that it is meant.",
		Example: t.examples("ctl del greeting", "ctl del --prefix config/", "ctl del a c --range --prev-kv"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			op, err := t.delOp(cmd.Context(), &f, args)
			if err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				r, err := c.Do(ctx, op)
				if err != nil {
					return output.Answer{}, err
				}
				return output.Del(r.Del()), nil
			})
		}),
	}
	f.register(cmd.Flags())
	return cmd
}

// delOp is the deletion that args ask for, after the pause that a range is owed.
func (t *tool) delOp(ctx context.Context, f *delFlags, args []string) (clientv3.Op, error) {
	if len(args) == 0 || len(args) > 2 {
		return clientv3.Op{}, badArgs("del command needs one argument as key and an optional argument as range_end")
	}
	if f.prefix && f.fromKey {
		return clientv3.Op{}, errPrefixAndFrom
	}
	key, opts, err := f.rangeOf(args)
	if err != nil {
		return clientv3.Op{}, err
	}
	if len(args) == 2 && !f.rangeMeant {
		fmt.Fprintf(t.env.Stderr, "Warning: Keys between %q and %q will be deleted. Please interrupt the command within next 2 seconds to cancel. "+
			"You can provide `--range` flag to avoid the delay.\n", args[0], args[1])
		if err := t.env.Sleep(ctx, delPause); err != nil {
			return clientv3.Op{}, err
		}
	}
	return clientv3.OpDelete(key, when(opts, f.prevKV, clientv3.WithPrevKV)...), nil
}

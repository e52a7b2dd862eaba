package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

// getFlags are those of get, on the command line and in a transaction.
type getFlags struct {
	rangeFlags
	consistency, order, sortBy string
	limit, rev                 int64 // 0 is none
	keysOnly, countOnly        bool
	valueOnly, stream          bool

	minCreateRev, maxCreateRev, minModRev, maxModRev int64 // 0 is none
}

// The values that name how a range is sorted; an empty one is the first.
var (
	sortOrders  = []string{"ASCEND", "DESCEND"}
	sortTargets = []string{"CREATE", "KEY", "MODIFY", "VALUE", "VERSION"}
)

func (f *getFlags) register(fs *pflag.FlagSet) {
	f.rangeFlags.register(fs, "get")
	fs.StringVar(&f.consistency, "consistency", "l", "l: linearizable, what the whole cluster has; s: serializable, what the asked member has")
	fs.StringVar(&f.order, "order", "", "order of the results: ASCEND (if none is given) or DESCEND")
	fs.StringVar(&f.sortBy, "sort-by", "", "what they are ordered by: CREATE, KEY, MODIFY, VALUE or VERSION")
	fs.Int64Var(&f.limit, "limit", 0, "how many results at most (0: all)")
	fs.Int64Var(&f.rev, "rev", 0, "revision to read at (0: the newest)")
	fs.BoolVar(&f.keysOnly, "keys-only", false, "get only the keys")
	fs.BoolVar(&f.countOnly, "count-only", false, "get only the count (shown by -w fields)")
	fs.BoolVar(&f.valueOnly, "print-value-only", false, "show only the values, in the form simple")
	fs.Int64Var(&f.minCreateRev, "min-create-rev", 0, "leave out keys created before this revision")
	fs.Int64Var(&f.maxCreateRev, "max-create-rev", 0, "leave out keys created after this revision")
	fs.Int64Var(&f.minModRev, "min-mod-rev", 0, "leave out keys changed last before this revision")
	fs.Int64Var(&f.maxModRev, "max-mod-rev", 0, "leave out keys changed last after this revision")
	fs.BoolVar(&f.stream, "stream", false, "receive a large range in parts (RangeStream)")
}

func (t *tool) get() *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use:   "get [options] <key> [range_end]",
		Short: "Gets the key or a range of keys",
		Long:  "Gets a key, or the range of keys from <key> up to but without [range_end].",
		Example: t.examples("ctl get greeting", "ctl get --prefix config/ --keys-only", "ctl get a z --limit=10 -w json",
			"ctl get greeting --rev=7", "ctl get --prefix \"\" --count-only -w fields"),
		RunE: run(func(cmd *cobra.Command, args []string) error { return t.getKeys(cmd, args, &f) }),
	}
	f.register(cmd.Flags())
	completeWith(cmd, "consistency", "l", "s")
	completeWith(cmd, "order", sortOrders...)
	completeWith(cmd, "sort-by", sortTargets...)
	return cmd
}

func (t *tool) getKeys(cmd *cobra.Command, args []string, f *getFlags) error {
	op, err := f.op(args)
	if err != nil {
		return err
	}
	return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
		var r *clientv3.GetResponse
		var err error
		if f.stream {
			key, opts, _ := f.options(args) // op has found them good
			var parts clientv3.GetStreamChan
			if parts, err = c.GetStream(ctx, key, opts...); err == nil {
				r, err = clientv3.GetStreamToGetResponse(parts)
			}
		} else {
			var answer clientv3.OpResponse
			if answer, err = c.Do(ctx, op); err == nil {
				r = answer.Get()
			}
		}
		switch {
		case err != nil:
			return output.Answer{}, err
		case f.countOnly && t.printer.Format() != "fields":
			return output.Answer{}, badArgs("--count-only is only for `--write-out=fields`")
		case f.valueOnly && t.printer.Format() != "simple":
			return output.Answer{}, badArgs("print-value-only is only for `--write-out=simple`")
		}
		return output.Get(r, f.valueOnly), nil
	})
}

// op is the read that args ask for.
func (f *getFlags) op(args []string) (clientv3.Op, error) {
	key, opts, err := f.options(args)
	if err != nil {
		return clientv3.Op{}, err
	}
	return clientv3.OpGet(key, opts...), nil
}

func (f *getFlags) options(args []string) (string, []clientv3.OpOption, error) {
	if len(args) == 0 {
		return "", nil, badArgs("get command needs one argument as key and an optional argument as range_end")
	}
	if f.prefix && f.fromKey {
		return "", nil, errPrefixAndFrom
	}
	if f.keysOnly && f.countOnly {
		return "", nil, badArgs("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
	}
	serializable, err := isSerializable(f.consistency)
	if err != nil {
		return "", nil, err
	}
	key, opts, err := f.rangeOf(args)
	if err != nil {
		return "", nil, err
	}
	opts = append(opts, clientv3.WithLimit(f.limit))
	opts = when(opts, serializable, clientv3.WithSerializable)
	opts = when(opts, f.rev > 0, func() clientv3.OpOption { return clientv3.WithRev(f.rev) })
	sorted, err := f.sort()
	if err != nil {
		return "", nil, err
	}
	opts = append(opts, sorted)
	opts = when(opts, f.keysOnly, clientv3.WithKeysOnly)
	opts = when(opts, f.countOnly, clientv3.WithCountOnly)
	bounds, err := f.bounds()
	return key, append(opts, bounds...), err
}

func (f *getFlags) sort() (clientv3.OpOption, error) {
	order := map[string]clientv3.SortOrder{"": clientv3.SortNone, "ASCEND": clientv3.SortAscend, "DESCEND": clientv3.SortDescend}
	target := map[string]clientv3.SortTarget{
		"": clientv3.SortByKey, "CREATE": clientv3.SortByCreateRevision, "KEY": clientv3.SortByKey,
		"MODIFY": clientv3.SortByModRevision, "VALUE": clientv3.SortByValue, "VERSION": clientv3.SortByVersion,
	}
	o, ok := order[strings.ToUpper(f.order)]
	if !ok {
		return nil, fail(exitBadFeature, fmt.Errorf("bad sort order %v", f.order))
	}
	by, ok := target[strings.ToUpper(f.sortBy)]
	if !ok {
		return nil, fail(exitBadFeature, fmt.Errorf("bad sort target %v", f.sortBy))
	}
	return clientv3.WithSort(by, o), nil
}

// bounds leave keys out by their revisions. The names in the errors are etcd's.
func (f *getFlags) bounds() ([]clientv3.OpOption, error) {
	var opts []clientv3.OpOption
	for _, b := range []struct {
		name            string
		least, most     int64
		atLeast, atMost func(int64) clientv3.OpOption
	}{
		{"Create", f.minCreateRev, f.maxCreateRev, clientv3.WithMinCreateRev, clientv3.WithMaxCreateRev},
		{"Mod", f.minModRev, f.maxModRev, clientv3.WithMinModRev, clientv3.WithMaxModRev},
	} {
		if b.most > 0 && b.least > b.most {
			return nil, fail(exitBadFeature, fmt.Errorf("getMin%sRev(=%v) > getMax%sRev(=%v)", b.name, b.least, b.name, b.most))
		}
		opts = when(opts, b.least > 0, func() clientv3.OpOption { return b.atLeast(b.least) })
		opts = when(opts, b.most > 0, func() clientv3.OpOption { return b.atMost(b.most) })
	}
	return opts, nil
}

// isSerializable reads a consistency.
func isSerializable(consistency string) (bool, error) {
	switch consistency {
	case "s":
		return true, nil
	case "l":
		return false, nil
	}
	return false, fail(exitBadFeature, fmt.Errorf("unknown consistency flag %q", consistency))
}

// rangeFlags say how far a range goes.
type rangeFlags struct{ prefix, fromKey bool }

func (f *rangeFlags) register(fs *pflag.FlagSet, verb string) {
	fs.BoolVar(&f.prefix, "prefix", false, verb+" all keys that begin with the given one")
	fs.BoolVar(&f.fromKey, "from-key", false, verb+" the given key and all that come after it, byte by byte")
}

var errPrefixAndFrom = badArgs("`--prefix` and `--from-key` cannot be set at the same time, choose one")

// rangeOf is the range that arguments and flags mean. The empty key stands for the first there can be.
func (f *rangeFlags) rangeOf(args []string) (string, []clientv3.OpOption, error) {
	key := args[0]
	if len(args) > 1 {
		if f.prefix || f.fromKey {
			return "", nil, badArgs("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
		}
		return key, []clientv3.OpOption{clientv3.WithRange(args[1])}, nil
	}
	switch {
	case !f.prefix && !f.fromKey:
		return key, nil, nil
	case key == "":
		return "\x00", []clientv3.OpOption{clientv3.WithFromKey()}, nil
	case f.prefix:
		return key, []clientv3.OpOption{clientv3.WithPrefix()}, nil
	}
	return key, []clientv3.OpOption{clientv3.WithFromKey()}, nil
}

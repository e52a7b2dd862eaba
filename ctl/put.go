package ctl

import (
	"context"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

// putFlags are those of put, on the command line and in a transaction.
type putFlags struct {
	lease                            string // hexadecimal; 0 is none
	prevKV, ignoreValue, ignoreLease bool
}

func (f *putFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.lease, "lease", "0", "lease (in hexadecimal) that the key ends with")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "show the pair as it was before")
	fs.BoolVar(&f.ignoreValue, "ignore-value", false, "keep the value: write the key anew with what it has")
	fs.BoolVar(&f.ignoreLease, "ignore-lease", false, "keep the lease that the key has")
}

func (t *tool) put() *cobra.Command {
	var f putFlags
	cmd := &cobra.Command{
		Use:   "put [options] <key> <value> (<value> can also be given from stdin)",
		Short: "Puts the given key into the store",
		Long: "Puts a key and its value into the store. A value that is not given is read from standard input, as it is, its last newline too.\n\n" +
			"A key or value that begins with '-' stands behind '--', which ends the flags.",
		Example: t.examples("ctl put greeting hello", "cat file | ctl put file", "ctl put -- -key -value",
			"ctl put session x --lease=694d77aa9e38260f"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			op, err := f.op(args, t.env.Stdin)
			if err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				r, err := c.Do(ctx, op)
				if err != nil {
					return output.Answer{}, err
				}
				return output.Put(r.Put()), nil
			})
		}),
	}
	f.register(cmd.Flags())
	return cmd
}

// op is the put that args ask for; a value that is missing is read from stdin.
func (f *putFlags) op(args []string, stdin io.Reader) (clientv3.Op, error) {
	if len(args) == 0 {
		return clientv3.Op{}, errPutArgs
	}
	if f.ignoreValue && len(args) > 1 {
		return clientv3.Op{}, badArgs("put command needs only 1 argument when 'ignore-value' is set")
	}
	value, err := f.value(args, stdin)
	if err != nil {
		return clientv3.Op{}, err
	}
	lease, err := strconv.ParseInt(f.lease, 16, 64)
	if err != nil {
		return clientv3.Op{}, badArgs("bad lease ID (%w), expecting ID in Hex", err)
	}
	var opts []clientv3.OpOption
	if lease != 0 {
		opts = append(opts, clientv3.WithLease(clientv3.LeaseID(lease)))
	}
	opts = when(opts, f.prevKV, clientv3.WithPrevKV)
	opts = when(opts, f.ignoreValue, clientv3.WithIgnoreValue)
	opts = when(opts, f.ignoreLease, clientv3.WithIgnoreLease)
	return clientv3.OpPut(args[0], value, opts...), nil
}

var errPutArgs = badArgs("put command needs 1 argument and input from stdin or 2 arguments")

func (f *putFlags) value(args []string, stdin io.Reader) (string, error) {
	switch {
	case f.ignoreValue:
		return "", nil
	case len(args) > 1:
		return args[1], nil
	}
	value, err := io.ReadAll(stdin)
	if err != nil || len(value) == 0 {
		return "", errPutArgs
	}
	return string(value), nil
}

// when adds an option if it is wanted.
func when(opts []clientv3.OpOption, wanted bool, option func() clientv3.OpOption) []clientv3.OpOption {
	if wanted {
		return append(opts, option())
	}
	return opts
}

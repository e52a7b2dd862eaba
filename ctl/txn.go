package ctl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) txn() *cobra.Command {
	var interactive bool
	cmd := &cobra.Command{
		Use:   "txn [options]",
		Short: "Txn processes all the requests in one transaction",
		Long: `Reads a transaction from standard input and carries it out in one step.

It has three blocks, each ended by an empty line: comparisons, requests for the case that all of them hold, and requests for the
case that one does not. A comparison is

  TARGET("key") OPERATOR "value"

TARGET is version (ver), create (c), mod (m), value (val) or lease; OPERATOR is =, !=, < or >; a lease is written in hexadecimal.
A request is put, get or del with its arguments and flags, as on the command line.`,
		Example: t.examples(
			`printf 'mod("stock") > "0"\n\nput stock 41\nget stock\n\nput stock 100\n\n' | ctl txn`,
			"ctl txn -i      # asks for each block",
			`printf 'version("lock/a") = "0"\n\nput lock/a me\n\nget lock/a\n\n' | ctl txn -w json`),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return badArgs("txn command does not accept argument")
			}
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer t.close(c)
			say := io.Discard
			if interactive {
				say = t.env.Stdout
			}
			txn, err := t.readTxn(cmd.Context(), say)
			if err != nil {
				return fail(exitInvalidInput, err)
			}
			ctx, cancel := t.limit(cmd.Context())
			defer cancel()
			r, err := c.Txn(ctx).If(txn.compares...).Then(txn.then...).Else(txn.otherwise...).Commit()
			if err != nil {
				return err
			}
			return t.show(output.Txn(r))
		}),
	}
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "ask for each block")
	return cmd
}

// txnText is a transaction as it was typed.
type txnText struct {
	compares        []clientv3.Cmp
	then, otherwise []clientv3.Op
}

// readTxn reads the three blocks from standard input, asking for each on say.
func (t *tool) readTxn(ctx context.Context, say io.Writer) (txn txnText, err error) {
	in := bufio.NewReader(t.env.Stdin)
	request := func(line string) (clientv3.Op, error) { return t.parseRequest(ctx, line) }
	fmt.Fprintln(say, "compares:")
	if txn.compares, err = readBlock(in, parseCompare); err != nil {
		return txn, err
	}
	fmt.Fprintln(say, "success requests (get, put, del):")
	if txn.then, err = readBlock(in, request); err != nil {
		return txn, err
	}
	fmt.Fprintln(say, "failure requests (get, put, del):")
	txn.otherwise, err = readBlock(in, request)
	return txn, err
}

// readBlock reads lines up to an empty one. Input that ends before is an error: it may be half of what was meant.
func readBlock[T any](in *bufio.Reader, parse func(line string) (T, error)) ([]T, error) {
	var block []T
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line = strings.TrimSpace(line); line == "" {
			return block, nil
		}
		parsed, err := parse(line)
		if err != nil {
			return nil, err
		}
		block = append(block, parsed)
	}
}

// parseCompare reads a comparison: TARGET("key") OPERATOR "value".
func parseCompare(line string) (clientv3.Cmp, error) {
	target, rest, found := strings.Cut(line, "(")
	if !found {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s", line)
	}
	var key, op, value string
	if n, err := fmt.Sscanf(rest, "%q) %s %q", &key, &op, &value); n != 3 {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s; got %s(%q) %s %q", line, target, key, op, value)
	} else if err != nil {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s (%w)", line, err)
	}
	if !strings.Contains(" = != < > ", " "+op+" ") {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s (unknown operator %s)", line, op)
	}
	number := func(base int, left clientv3.Cmp) (clientv3.Cmp, error) {
		right, err := strconv.ParseInt(value, base, 64)
		if err != nil {
			return clientv3.Cmp{}, fmt.Errorf("invalid txn compare request: %s", line)
		}
		return clientv3.Compare(left, op, right), nil
	}
	switch target {
	case "ver", "version":
		return number(10, clientv3.Version(key))
	case "c", "create":
		return number(10, clientv3.CreateRevision(key))
	case "m", "mod":
		return number(10, clientv3.ModRevision(key))
	case "lease":
		return number(16, clientv3.LeaseValue(key))
	case "val", "value":
		return clientv3.Compare(clientv3.Value(key), op, value), nil
	}
	return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s (unknown target %s)", line, target)
}

// parseRequest reads a put, a get or a del with its flags. A name may be shortened, as on the command line.
func (t *tool) parseRequest(ctx context.Context, line string) (clientv3.Op, error) {
	args, err := words(line)
	if err != nil {
		return clientv3.Op{}, err
	}
	if len(args) < 2 {
		return clientv3.Op{}, fmt.Errorf("invalid txn compare request: %s", line)
	}
	fs := pflag.NewFlagSet(args[0], pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var (
		p  putFlags
		g  getFlags
		d  delFlags
		op func() (clientv3.Op, error)
	)
	switch name := args[0]; {
	case strings.HasPrefix("put", name):
		p.register(fs)
		op = func() (clientv3.Op, error) { return p.op(fs.Args(), strings.NewReader("")) } // standard input holds the transaction
	case strings.HasPrefix("get", name):
		g.register(fs)
		op = func() (clientv3.Op, error) { return g.op(fs.Args()) }
	case strings.HasPrefix("del", name):
		d.register(fs)
		op = func() (clientv3.Op, error) { return t.delOp(ctx, &d, fs.Args()) }
	default:
		return clientv3.Op{}, fmt.Errorf("invalid txn request: %s", line)
	}
	if err := fs.Parse(args[1:]); err != nil {
		return clientv3.Op{}, fmt.Errorf("invalid txn request: %s", line)
	}
	return op()
}

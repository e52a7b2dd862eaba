package ctl

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

// asking puts one question to the cluster.
type asking func(ctx context.Context, c *clientv3.Client) (output.Answer, error)

// within dials and does something in the time of a short command.
func (t *tool) within(cmd *cobra.Command, do func(ctx context.Context, c *clientv3.Client) error) error {
	c, err := t.connect(cmd)
	if err != nil {
		return err
	}
	defer t.close(c)
	ctx, cancel := t.limit(cmd.Context())
	defer cancel()
	return do(ctx, c)
}

// ask dials, puts the question within the time of a short command, and shows the answer.
func (t *tool) ask(cmd *cobra.Command, do asking) error {
	return t.within(cmd, func(ctx context.Context, c *clientv3.Client) error {
		answer, err := do(ctx, c)
		if err != nil {
			return err
		}
		return t.show(answer)
	})
}

// question is a command that puts one question about its arguments.
type question struct {
	use, short, long string
	example          []string
	args             int    // how many it takes
	refusal          string // what is said of another number
	ask              func(ctx context.Context, c *clientv3.Client, args []string) (output.Answer, error)
}

func (t *tool) question(q question) *cobra.Command {
	return &cobra.Command{
		Use: q.use, Short: q.short, Long: q.long, Example: t.examples(q.example...),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != q.args {
				return badArgs("%s", q.refusal)
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) { return q.ask(ctx, c, args) })
		}),
	}
}

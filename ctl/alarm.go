package ctl

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) alarm() *cobra.Command {
	c := &cobra.Command{
		Use:     "alarm <subcommand>",
		Short:   "Alarm related commands. Use `" + t.env.Program + " alarm --help` to see subcommands",
		Long:    "Alarm related commands",
		Example: t.examples("ctl alarm list", "ctl alarm disarm"),
	}
	c.AddCommand(
		t.question(question{
			use: "disarm", short: "Disarms all alarms", example: []string{"ctl alarm disarm"},
			refusal: "alarm disarm command accepts no arguments",
			ask: func(ctx context.Context, c *clientv3.Client, _ []string) (output.Answer, error) {
				answer, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
				return output.Alarms(answer), err
			},
		}),
		t.question(question{
			use: "list", short: "Lists all alarms", example: []string{"ctl alarm list"},
			refusal: "alarm list command accepts no arguments",
			ask: func(ctx context.Context, c *clientv3.Client, _ []string) (output.Answer, error) {
				answer, err := c.AlarmList(ctx)
				return output.Alarms(answer), err
			},
		}),
	)
	return c
}

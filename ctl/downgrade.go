package ctl

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) downgrade() *cobra.Command {
	c := &cobra.Command{
		Use:     "downgrade <TARGET_VERSION>",
		Short:   "Downgrade related commands. Use `" + t.env.Program + " downgrade --help` to see subcommands",
		Long:    "Downgrade related commands",
		Example: t.examples("ctl downgrade validate 3.6", "ctl downgrade enable 3.6", "ctl downgrade cancel"),
	}
	c.AddCommand(
		t.downgradeTo("validate", "Validate downgrade capability before starting downgrade", clientv3.DowngradeValidate),
		t.downgradeTo("enable", "Start a downgrade action to cluster", clientv3.DowngradeEnable),
		&cobra.Command{
			Use: "cancel", Short: "Cancel the ongoing downgrade action to cluster", Example: t.examples("ctl downgrade cancel"),
			RunE: run(func(cmd *cobra.Command, _ []string) error {
				return t.askDowngrade(cmd, "cancel", clientv3.DowngradeCancel, "")
			}),
		})
	return c
}

func (t *tool) downgradeTo(name, short string, action clientv3.DowngradeAction) *cobra.Command {
	return &cobra.Command{
		Use: name + " <TARGET_VERSION>", Short: short, Example: t.examples("ctl downgrade " + name + " 3.6"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) < 1:
				return badArgs("TARGET_VERSION not provided")
			case len(args) > 1:
				return badArgs("too many arguments")
			case args[0] == "":
				return badArgs("target version not provided")
			}
			return t.askDowngrade(cmd, name, action, args[0])
		}),
	}
}

func (t *tool) askDowngrade(cmd *cobra.Command, name string, action clientv3.DowngradeAction, target string) error {
	return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
		answer, err := c.Downgrade(ctx, action, target)
		return output.Downgrade(answer, name), err
	})
}

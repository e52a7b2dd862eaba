package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (t *tool) compaction() *cobra.Command {
	var physical bool
	cmd := &cobra.Command{
		Use:     "compaction [options] <revision>",
		Short:   "Compacts the event history in etcd",
		Long:    "Drops the history below a revision: what keys were before it can no longer be read or watched. What they are stays.",
		Example: t.examples("ctl compaction 1234", "ctl compaction --physical 1234"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("compaction command needs 1 argument")
			}
			rev, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return err
			}
			var opts []clientv3.CompactOption
			if physical {
				opts = append(opts, clientv3.WithCompactPhysical())
			}
			return t.within(cmd, func(ctx context.Context, c *clientv3.Client) error {
				if _, err := c.Compact(ctx, rev, opts...); err != nil {
					return err
				}
				_, err := fmt.Fprintln(t.env.Stdout, "compacted revision", rev)
				return fail(exitIO, err)
			})
		}),
	}
	cmd.Flags().BoolVar(&physical, "physical", false, "return only when the old revisions are removed, not just hidden")
	return cmd
}

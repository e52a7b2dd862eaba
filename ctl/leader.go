package ctl

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) moveLeader() *cobra.Command {
	return &cobra.Command{
		Use:     "move-leader <transferee-member-id>",
		Short:   "Transfers leadership to another etcd cluster member.",
		Long:    "Transfers leadership to another voting member of the cluster. The leader must be among the endpoints.",
		Example: t.examples("ctl move-leader 8e9e05c52164694d --endpoints=10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("move-leader command needs 1 argument")
			}
			to, err := strconv.ParseUint(args[0], 16, 64)
			if err != nil {
				return fail(exitBadArgs, err)
			}
			spec, err := t.clientSpec(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := t.limit(cmd.Context())
			defer cancel()
			leader, from, err := t.findLeader(ctx, spec)
			if err != nil {
				return err
			}
			defer leader.Close()
			answer, err := leader.MoveLeader(ctx, to)
			if err != nil {
				return err
			}
			return t.show(output.LeaderMoved(answer, from, to))
		}),
	}
}

// findLeader returns a client of the endpoint that leads, and the leader's id. The caller closes the client.
func (t *tool) findLeader(ctx context.Context, spec *clientv3.ConfigSpec) (*clientv3.Client, uint64, error) {
	for _, endpoint := range spec.Endpoints {
		c, err := t.dial(at(spec, endpoint))
		if err != nil {
			return nil, 0, err
		}
		status, err := c.Status(ctx, endpoint)
		if err == nil && status.Header.GetMemberId() == status.Leader {
			return c, status.Leader, nil
		}
		if closed := c.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, badArgs("no leader endpoint given at %v", spec.Endpoints)
}

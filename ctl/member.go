package ctl

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) member() *cobra.Command {
	c := &cobra.Command{
		Use:     "member <subcommand>",
		Short:   "Membership related commands. Use `" + t.env.Program + " member --help` to see subcommands",
		Long:    "Membership related commands",
		Example: t.examples("ctl member list -w table", "ctl member add m4 --peer-urls=https://10.0.0.4:2380 --learner"),
	}
	c.AddCommand(t.memberAdd(), t.memberRemove(), t.memberUpdate(), t.memberList(), t.memberPromote())
	return c
}

func (t *tool) memberAdd() *cobra.Command {
	var peers string
	var learner bool
	c := &cobra.Command{
		Use:   "add <memberName> [options]",
		Short: "Adds a member into the cluster",
		Long: "Adds a member into the cluster, and shows the settings that it is to be started with.\n\n" +
			"A learner gets the data and takes no part in decisions until it is promoted: so the cluster does not depend on a member that is not there yet.",
		Example: t.examples("ctl member add m4 --peer-urls=https://10.0.0.4:2380 --learner",
			"ctl member promote 8e9e05c52164694d"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if err := oneName(args); err != nil {
				return err
			}
			if peers == "" {
				return badArgs("member peer urls not provided")
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				add := c.MemberAdd
				if learner {
					add = c.MemberAddAsLearner
				}
				answer, err := add(ctx, strings.Split(peers, ","))
				return output.MemberAdded(answer, args[0], peers), err
			})
		}),
	}
	c.Flags().StringVar(&peers, "peer-urls", "", "comma separated peer URLs for the new member.")
	c.Flags().BoolVar(&learner, "learner", false, "indicates if the new member is raft learner")
	return c
}

// oneName checks the arguments of member add. etcd 3.3 took the peers' addresses there, without a flag.
func oneName(args []string) error {
	switch {
	case len(args) == 0:
		return badArgs("member name not provided")
	case len(args) == 1:
		return nil
	}
	text := "too many arguments"
	for _, arg := range args {
		if strings.HasPrefix(strings.ToLower(arg), "http") {
			text += ", did you mean --peer-urls=" + arg
		}
	}
	return badArgs("%s", text)
}

// memberID reads the one argument of a command about a member.
func memberID(args []string) (uint64, error) {
	if len(args) != 1 {
		return 0, badArgs("member ID is not provided")
	}
	id, err := strconv.ParseUint(args[0], 16, 64)
	if err != nil {
		return 0, badArgs("bad member ID arg (%w), expecting ID in Hex", err)
	}
	return id, nil
}

func (t *tool) memberRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove <memberID>",
		Short:   "Removes a member from the cluster",
		Example: t.examples("ctl member remove 8e9e05c52164694d"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				answer, err := c.MemberRemove(ctx, id)
				return output.MemberRemoved(answer, id), err
			})
		}),
	}
}

func (t *tool) memberUpdate() *cobra.Command {
	var peers string
	c := &cobra.Command{
		Use:     "update <memberID> [options]",
		Short:   "Updates a member in the cluster",
		Example: t.examples("ctl member update 8e9e05c52164694d --peer-urls=https://10.0.0.9:2380"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			if peers == "" {
				return badArgs("member peer urls not provided")
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				answer, err := c.MemberUpdate(ctx, id, strings.Split(peers, ","))
				return output.MemberUpdated(answer, id), err
			})
		}),
	}
	c.Flags().StringVar(&peers, "peer-urls", "", "comma separated peer URLs for the updated member.")
	return c
}

func (t *tool) memberList() *cobra.Command {
	var consistency string
	c := &cobra.Command{
		Use:   "list",
		Short: "Lists all members in the cluster",
		Long: "When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.\n" +
			"The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.",
		Example: t.examples("ctl member list", "ctl member list -w json --hex", "# What the endpoint knows, also without a majority",
			"ctl member list --consistency=s"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			serializable, err := isSerializable(consistency)
			if err != nil {
				return err
			}
			opts := when(nil, serializable, clientv3.WithSerializable)
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				answer, err := c.MemberList(ctx, opts...)
				return output.Members(answer), err
			})
		}),
	}
	c.Flags().StringVar(&consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
	completeWith(c, "consistency", "l", "s")
	return c
}

func (t *tool) memberPromote() *cobra.Command {
	return &cobra.Command{
		Use:     "promote <memberID>",
		Short:   "Promotes a non-voting member in the cluster",
		Long:    "Promotes a non-voting learner member to a voting one in the cluster. It is refused while the learner has not caught up.",
		Example: t.examples("ctl member promote 8e9e05c52164694d"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				answer, err := c.MemberPromote(ctx, id)
				return output.MemberPromoted(answer, id), err
			})
		}),
	}
}

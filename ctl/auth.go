package ctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) auth() *cobra.Command {
	c := &cobra.Command{
		Use:     "auth <enable or disable>",
		Short:   "Enable or disable authentication. Use `" + t.env.Program + " auth --help` to see subcommands",
		Long:    "Enable or disable authentication",
		Example: t.examples("ctl user add root", "ctl auth enable", "ctl auth status --user root"),
	}
	c.AddCommand(
		t.authSwitch("enable", "Enables authentication", "Authentication Enabled", enableAuth),
		t.authSwitch("disable", "Disables authentication", "Authentication Disabled",
			func(ctx context.Context, c *clientv3.Client) error {
				_, err := c.AuthDisable(ctx)
				return err
			}),
		t.question(question{
			use: "status", short: "Returns authentication status", example: []string{"ctl auth status"},
			refusal: "auth status command does not accept any arguments",
			ask: func(ctx context.Context, c *clientv3.Client, _ []string) (output.Answer, error) {
				answer, err := c.AuthStatus(ctx)
				return output.AuthStatus(answer), err
			},
		}),
	)
	return c
}

// authSwitch is a command whose answer is one line in every format.
func (t *tool) authSwitch(name, short, said string, do func(context.Context, *clientv3.Client) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Example: t.examples("ctl auth " + name),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return badArgs("auth %s command does not accept any arguments", name)
			}
			return t.within(cmd, func(ctx context.Context, c *clientv3.Client) error {
				if err := do(ctx, c); err != nil {
					return err
				}
				_, err := fmt.Fprintln(t.env.Stdout, said)
				return fail(exitIO, err)
			})
		}),
	}
}

// root is the user, and the role, without whom authentication cannot be turned on.
const root = "root"

// enableAuth turns authentication on. If the user root lacks the role, it is made and granted first.
func enableAuth(ctx context.Context, c *clientv3.Client) error {
	_, err := c.AuthEnable(ctx)
	if !errors.Is(err, rpctypes.ErrRootRoleNotExist) {
		return err
	}
	if _, err := c.RoleAdd(ctx, root); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return err
	}
	if _, err := c.UserGrantRole(ctx, root, root); err != nil {
		return err
	}
	_, err = c.AuthEnable(ctx)
	return err
}

package ctl

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) role() *cobra.Command {
	c := &cobra.Command{
		Use:     "role <subcommand>",
		Short:   "Role related commands. Use `" + t.env.Program + " role --help` to see subcommands",
		Long:    "Role related commands",
		Example: t.examples("ctl role add backup", "ctl role grant-permission backup read --prefix /app/", "ctl user grant-role alice backup"),
	}
	c.AddCommand(t.roleAdd(), t.roleDelete(), t.roleGet(), t.roleList(), t.roleGrant(), t.roleRevoke())
	return c
}

func (t *tool) roleAdd() *cobra.Command {
	return t.question(question{
		use: "add <role name>", short: "Adds a new role", example: []string{"ctl role add backup"},
		args: 1, refusal: "role add command requires role name as its argument",
		ask: func(ctx context.Context, c *clientv3.Client, args []string) (output.Answer, error) {
			answer, err := c.RoleAdd(ctx, args[0])
			return output.RoleAdded(answer, args[0]), err
		},
	})
}

func (t *tool) roleDelete() *cobra.Command {
	return t.question(question{
		use: "delete <role name>", short: "Deletes a role", example: []string{"ctl role delete backup"},
		args: 1, refusal: "role delete command requires role name as its argument",
		ask: func(ctx context.Context, c *clientv3.Client, args []string) (output.Answer, error) {
			answer, err := c.RoleDelete(ctx, args[0])
			return output.RoleDeleted(answer, args[0]), err
		},
	})
}

func (t *tool) roleGet() *cobra.Command {
	return t.question(question{
		use: "get <role name>", short: "Gets detailed information of a role", example: []string{"ctl role get backup"},
		args: 1, refusal: "role get command requires role name as its argument",
		ask: func(ctx context.Context, c *clientv3.Client, args []string) (output.Answer, error) {
			answer, err := c.RoleGet(ctx, args[0])
			return output.Role(answer, args[0]), err
		},
	})
}

func (t *tool) roleList() *cobra.Command {
	return t.question(question{
		use: "list", short: "Lists all roles", example: []string{"ctl role list"},
		args: 0, refusal: "role list command requires no arguments",
		ask: func(ctx context.Context, c *clientv3.Client, _ []string) (output.Answer, error) {
			answer, err := c.RoleList(ctx)
			return output.Roles(answer), err
		},
	})
}

func (t *tool) roleGrant() *cobra.Command {
	var flags keyFlags
	c := &cobra.Command{
		Use:   "grant-permission [options] <role name> <permission type> <key> [endkey]",
		Short: "Grants a key to a role",
		Example: t.examples("# One key, a range, all keys that begin with /app/", "ctl role grant-permission backup read /app/config",
			"ctl role grant-permission backup readwrite /app/a /app/n", "ctl role grant-permission backup write --prefix /app/"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 {
				return badArgs("role grant command requires role name, permission type, and key [endkey] as its argument")
			}
			kind, err := clientv3.StrToPermissionType(args[1])
			if err != nil {
				return badArgs("%w", err)
			}
			key, end, err := flags.keys(args[2:])
			if err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				answer, err := c.RoleGrantPermission(ctx, args[0], key, end, kind)
				return output.PermissionGranted(answer, args[0]), err
			})
		}),
	}
	flags.add(c, "grant")
	return c
}

func (t *tool) roleRevoke() *cobra.Command {
	var flags keyFlags
	c := &cobra.Command{
		Use:     "revoke-permission <role name> <key> [endkey]",
		Short:   "Revokes a key from a role",
		Example: t.examples("ctl role revoke-permission backup --prefix /app/"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return badArgs("role revoke-permission command requires role name and key [endkey] as its argument")
			}
			key, end, err := flags.keys(args[1:])
			if err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				answer, err := c.RoleRevokePermission(ctx, args[0], key, end)
				return output.PermissionRevoked(answer, args[0], args[1], end), err
			})
		}),
	}
	flags.add(c, "revoke")
	return c
}

// keyFlags say how far a permission reaches beyond its key.
type keyFlags struct{ prefix, fromKey bool }

func (f *keyFlags) add(cmd *cobra.Command, verb string) {
	cmd.Flags().BoolVar(&f.prefix, "prefix", false, verb+" a prefix permission")
	cmd.Flags().BoolVar(&f.fromKey, "from-key", false, verb+" a permission of keys that are greater than or equal to the given key using byte compare")
}

// allKeys is the range end that means every key from the first on, and the smallest key, which stands for the empty one.
const allKeys = "\x00"

// keys returns the key and the range end that arguments and flags mean, as the server takes them.
func (f keyFlags) keys(args []string) (key, end string, err error) {
	if f.prefix && f.fromKey && (len(args) == 1 || args[0] == "") {
		return "", "", badArgs("--from-key and --prefix flags are mutually exclusive")
	}
	switch {
	case args[0] == "" && (f.prefix || f.fromKey):
		return allKeys, allKeys, nil
	case args[0] == "": // an end given beside it does not count
		return allKeys, "", nil
	case len(args) == 1 && f.prefix:
		return args[0], clientv3.GetPrefixRangeEnd(args[0]), nil
	case len(args) == 1 && f.fromKey:
		return args[0], allKeys, nil
	case len(args) == 1:
		return args[0], "", nil
	case f.prefix:
		return "", "", badArgs("unexpected endkey argument with --prefix flag")
	case f.fromKey:
		return "", "", badArgs("unexpected endkey argument with --from-key flag")
	}
	return args[0], args[1], nil
}

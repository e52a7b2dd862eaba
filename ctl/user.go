package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) user() *cobra.Command {
	c := &cobra.Command{
		Use:     "user <subcommand>",
		Short:   "User related commands. Use `" + t.env.Program + " user --help` to see subcommands",
		Long:    "User related commands",
		Example: t.examples("ctl user add alice", "ctl user grant-role alice backup", "ctl user get alice --detail"),
	}
	c.AddCommand(t.userAdd(), t.userDelete(), t.userGet(), t.userList(), t.userPassword(), t.userGrant(), t.userRevoke())
	return c
}

func (t *tool) userAdd() *cobra.Command {
	var interactive, none bool
	var given string
	c := &cobra.Command{
		Use:   "add <user name or user:password> [options]",
		Short: "Adds a new user",
		Example: t.examples("# Asks for the password, twice", "ctl user add alice",
			"# Reads it from standard input", "ctl user add alice --interactive=false <password-file",
			"# A user that shows a certificate with this common name", "ctl user add alice --no-password"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("user add command requires user name as its argument")
			}
			name, password := args[0], given
			if !none && given == "" {
				var err error
				if name, password, err = t.newUser(args[0], interactive); err != nil {
					return err
				}
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				answer, err := c.UserAddWithOptions(ctx, name, password, &clientv3.UserAddOptions{NoPassword: none})
				return output.UserAdded(answer, name), err
			})
		}),
	}
	c.Flags().BoolVar(&interactive, "interactive", true, "Read password from stdin instead of interactive terminal")
	c.Flags().StringVar(&given, "new-user-password", "", "Supply password from the command line flag")
	c.Flags().BoolVar(&none, "no-password", false, "Create a user without password (CN based auth only)")
	return c
}

// newUser takes name and password out of an argument, or asks for the password.
func (t *tool) newUser(arg string, interactive bool) (name, password string, err error) {
	name, password, given := strings.Cut(arg, ":")
	switch {
	case given && name == "":
		return "", "", badArgs("empty user name is not allowed")
	case !given:
		password, err = t.newPassword(name, interactive)
	}
	return name, password, err
}

// newPassword asks for a password twice, or takes the first word of standard input.
func (t *tool) newPassword(user string, interactive bool) (string, error) {
	if !interactive {
		var word string
		_, _ = fmt.Fscanf(t.env.Stdin, "%s", &word) // an empty line fails; the server decides about an empty password
		return word, nil
	}
	first, err := t.askPassword("Password of " + user + ": ")
	if err != nil {
		return "", badArgs("failed to ask password: %w", err)
	}
	if first == "" {
		return "", badArgs("empty password")
	}
	second, err := t.askPassword("Type password of " + user + " again for confirmation: ")
	switch {
	case err != nil:
		return "", badArgs("failed to ask password: %w", err)
	case first != second:
		return "", badArgs("given passwords are different")
	}
	return first, nil
}

func (t *tool) userDelete() *cobra.Command {
	return t.question(question{
		use: "delete <user name>", short: "Deletes a user", example: []string{"ctl user delete alice"},
		args: 1, refusal: "user delete command requires user name as its argument",
		ask: func(ctx context.Context, c *clientv3.Client, args []string) (output.Answer, error) {
			answer, err := c.UserDelete(ctx, args[0])
			return output.UserDeleted(answer, args[0]), err
		},
	})
}

func (t *tool) userGet() *cobra.Command {
	var detail bool
	c := &cobra.Command{
		Use:     "get <user name> [options]",
		Short:   "Gets detailed information of a user",
		Example: t.examples("ctl user get alice", "# And what its roles may do", "ctl user get alice --detail"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("user get command requires user name as its argument")
			}
			return t.within(cmd, func(ctx context.Context, c *clientv3.Client) error {
				answer, err := c.UserGet(ctx, args[0])
				switch {
				case err != nil:
					return err
				case detail:
					return t.showRoles(ctx, c, args[0], answer.Roles)
				}
				return t.show(output.User(answer, args[0]))
			})
		}),
	}
	c.Flags().BoolVar(&detail, "detail", false, "Show permissions of roles granted to the user")
	return c
}

// showRoles shows the roles of a user one after the other, below a head that is the same in all formats.
func (t *tool) showRoles(ctx context.Context, c *clientv3.Client, user string, roles []string) error {
	fmt.Fprintf(t.env.Stdout, "User: %s\n", user)
	for _, role := range roles {
		fmt.Fprintln(t.env.Stdout)
		answer, err := c.RoleGet(ctx, role)
		if err != nil {
			return err
		}
		if err := t.show(output.Role(answer, role)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tool) userList() *cobra.Command {
	return t.question(question{
		use: "list", short: "Lists all users", example: []string{"ctl user list"},
		args: 0, refusal: "user list command requires no arguments",
		ask: func(ctx context.Context, c *clientv3.Client, _ []string) (output.Answer, error) {
			answer, err := c.UserList(ctx)
			return output.Users(answer), err
		},
	})
}

func (t *tool) userPassword() *cobra.Command {
	var interactive bool
	c := &cobra.Command{
		Use:     "passwd <user name> [options]",
		Short:   "Changes password of user",
		Example: t.examples("ctl user passwd alice", "ctl user passwd alice --interactive=false <password-file"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("user passwd command requires user name as its argument")
			}
			password, err := t.newPassword(args[0], interactive)
			if err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				answer, err := c.UserChangePassword(ctx, args[0], password)
				return output.PasswordChanged(answer), err
			})
		}),
	}
	c.Flags().BoolVar(&interactive, "interactive", true, "If true, read password from stdin instead of interactive terminal")
	return c
}

func (t *tool) userGrant() *cobra.Command {
	return t.question(question{
		use: "grant-role <user name> <role name>", short: "Grants a role to a user", example: []string{"ctl user grant-role alice backup"},
		args: 2, refusal: "user grant command requires user name and role name as its argument",
		ask: func(ctx context.Context, c *clientv3.Client, args []string) (output.Answer, error) {
			answer, err := c.UserGrantRole(ctx, args[0], args[1])
			return output.RoleGranted(answer, args[0], args[1]), err
		},
	})
}

func (t *tool) userRevoke() *cobra.Command {
	return t.question(question{
		use: "revoke-role <user name> <role name>", short: "Revokes a role from a user", example: []string{"ctl user revoke-role alice backup"},
		args: 2, refusal: "user revoke-role requires user name and role name as its argument",
		ask: func(ctx context.Context, c *clientv3.Client, args []string) (output.Answer, error) {
			answer, err := c.UserRevokeRole(ctx, args[0], args[1])
			return output.RoleRevoked(answer, args[0], args[1]), err
		},
	})
}

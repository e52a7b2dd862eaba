package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) lease() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lease <subcommand>",
		Short: "Lease related commands. Use `" + t.env.Program + " lease --help` to see subcommands",
		Long: "Leases end after their time unless they are kept alive, and the keys that hang on them end with them. " +
			"Leases are written in hexadecimal.",
	}
	cmd.AddCommand(t.leaseGrant(), t.leaseRevoke(), t.leaseTimeToLive(), t.leaseList(), t.leaseKeepAlive())
	return cmd
}

func (t *tool) leaseGrant() *cobra.Command {
	return &cobra.Command{
		Use:     "grant <ttl>",
		Short:   "Creates leases",
		Long:    "Creates a lease that ends after <ttl> seconds unless it is kept alive.",
		Example: t.examples("ctl lease grant 60"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("lease grant command needs TTL argument")
			}
			ttl, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return badArgs("bad TTL (%w)", err)
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				r, err := c.Grant(ctx, ttl)
				if err != nil {
					return output.Answer{}, fmt.Errorf("failed to grant lease (%w)", err)
				}
				return output.Granted(r), nil
			})
		}),
	}
}

func (t *tool) leaseRevoke() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke <leaseID>",
		Short:   "Revokes leases",
		Long:    "Ends a lease, and deletes the keys that hang on it.",
		Example: t.examples("ctl lease revoke 694d77aa9e38260f"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("lease revoke command needs 1 argument")
			}
			id, err := leaseID(args[0])
			if err != nil {
				return err
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				r, err := c.Revoke(ctx, id)
				if err != nil {
					return output.Answer{}, fmt.Errorf("failed to revoke lease (%w)", err)
				}
				return output.Revoked(id, r), nil
			})
		}),
	}
}

func (t *tool) leaseTimeToLive() *cobra.Command {
	var keys bool
	cmd := &cobra.Command{
		Use:     "timetolive <leaseID> [options]",
		Short:   "Get lease information",
		Long:    "Shows how much of a lease's time is left, and with --keys which keys hang on it.",
		Example: t.examples("ctl lease timetolive 694d77aa9e38260f --keys"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("lease timetolive command needs lease ID as argument")
			}
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				id, err := leaseID(args[0]) // looked at after the connection, as in etcd's tool
				if err != nil {
					return output.Answer{}, err
				}
				var opts []clientv3.LeaseOption
				if keys {
					opts = append(opts, clientv3.WithAttachedKeys())
				}
				r, err := c.TimeToLive(ctx, id, opts...)
				if err != nil {
					return output.Answer{}, fail(exitBadConnection, err)
				}
				return output.Lease(r, keys), nil
			})
		}),
	}
	cmd.Flags().BoolVar(&keys, "keys", false, "show the keys that hang on the lease")
	return cmd
}

func (t *tool) leaseList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all active leases",
		Example: t.examples("ctl lease list"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return t.ask(cmd, func(ctx context.Context, c *clientv3.Client) (output.Answer, error) {
				r, err := c.Leases(ctx)
				if err != nil {
					return output.Answer{}, fail(exitBadConnection, err)
				}
				return output.Leases(r), nil
			})
		}),
	}
}

func (t *tool) leaseKeepAlive() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:     "keep-alive [options] <leaseID>",
		Short:   "Keeps leases alive (renew)",
		Long:    "Keeps a lease alive until it is interrupted or the lease has ended.",
		Example: t.examples("ctl lease keep-alive 694d77aa9e38260f", "ctl lease keep-alive --once 694d77aa9e38260f"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("lease keep-alive command needs lease ID as argument")
			}
			id, err := leaseID(args[0])
			if err != nil {
				return err
			}
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer t.close(c)
			if !once {
				return t.keepAlive(cmd, c, id)
			}
			ctx, cancel := t.limit(cmd.Context())
			defer cancel()
			r, err := c.KeepAliveOnce(ctx, id)
			if err != nil {
				return fail(exitBadConnection, err)
			}
			return t.show(output.Kept(r))
		}),
	}
	cmd.Flags().BoolVar(&once, "once", false, "renew the lease once and return")
	return cmd
}

// keepAlive shows each renewal until there is none any more.
func (t *tool) keepAlive(cmd *cobra.Command, c *clientv3.Client, id clientv3.LeaseID) error {
	renewals, err := c.KeepAlive(cmd.Context(), id)
	if err != nil {
		return fail(exitBadConnection, err)
	}
	for r := range renewals {
		if err := t.show(output.Kept(r)); err != nil {
			return err
		}
	}
	if t.printer.Format() != "simple" {
		return nil
	}
	_, err = fmt.Fprintf(t.env.Stdout, "lease %016x expired or revoked.\n", id)
	return fail(exitIO, err)
}

func leaseID(text string) (clientv3.LeaseID, error) {
	id, err := strconv.ParseInt(text, 16, 64)
	if err != nil {
		return 0, badArgs("bad lease ID arg (%w), expecting ID in Hex", err)
	}
	return clientv3.LeaseID(id), nil
}

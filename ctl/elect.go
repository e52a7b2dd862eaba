package ctl

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"holdfast/ctl/output"
)

// electSeconds is how long a leader that is gone stays elected.
const electSeconds = 60

func (t *tool) elect() *cobra.Command {
	var listen bool
	cmd := &cobra.Command{
		Use:   "elect <election-name> [proposal [exec-command arg1 arg2 ...]]",
		Short: "Observes and participates in leader election",
		Long: `Stands for election with a proposal and, once elected, stays leader until a signal comes or the command that was given has
ended; the exit code is the command's. With --listen it only shows who leads. The command finds ETCD_ELECT_KEY and ETCD_ELECT_REV in
its environment.`,
		Example: t.examples("ctl elect scheduler host-1", "ctl elect scheduler host-1 -- ./scheduler", "ctl elect scheduler --listen"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return badArgs("elect takes one election name argument and an optional proposal argument")
			case len(args) == 1 && !listen:
				return badArgs("no proposal argument but -l not set")
			case len(args) > 1 && listen:
				return badArgs("proposal given but -l is set")
			}
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer t.close(c)
			s, err := t.session(cmd.Context(), c, electSeconds)
			if err != nil {
				return err
			}
			e := concurrency.NewElection(s, args[0])
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if listen {
				return t.observe(ctx, e)
			}
			return t.campaign(ctx, c, s, e, args[1], args[2:])
		}),
	}
	cmd.Flags().BoolVarP(&listen, "listen", "l", false, "only show who leads")
	return cmd
}

// observe shows each leader until a signal ends ctx.
func (t *tool) observe(ctx context.Context, e *concurrency.Election) error {
	for leader := range e.Observe(ctx) {
		if err := t.show(output.Get(leader, false)); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		return errors.New("elect: observer lost")
	}
	return nil
}

// campaign waits to be elected and leads until the command, or ctx, has ended.
func (t *tool) campaign(ctx context.Context, c *clientv3.Client, s *concurrency.Session, e *concurrency.Election, proposal string, command []string) error {
	if err := e.Campaign(ctx, proposal); err != nil {
		return err
	}
	if len(command) > 0 {
		err := t.runCommand(command, "ETCD_ELECT_KEY="+e.Key(), fmt.Sprintf("ETCD_ELECT_REV=%d", e.Rev()))
		return errors.Join(err, e.Resign(context.WithoutCancel(ctx)))
	}
	won, err := c.Get(ctx, e.Key())
	if err != nil {
		return err
	}
	if err := t.show(output.Get(won, false)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return e.Resign(context.WithoutCancel(ctx))
	case <-s.Done():
		return errors.New("elect: session expired")
	}
}

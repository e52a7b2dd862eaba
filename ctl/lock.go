package ctl

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"holdfast/ctl/output"
)

// lockSeconds is how long a lock outlives a holder that is gone, unless a flag says otherwise.
const lockSeconds = 10

func (t *tool) lock() *cobra.Command {
	var ttl int
	cmd := &cobra.Command{
		Use:   "lock <lockname> [exec-command arg1 arg2 ...]",
		Short: "Acquires a named lock",
		Long: `Waits for a lock and holds it, until a signal comes or the command that was given has ended. The exit code is the command's.
The command finds ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment.`,
		Example: t.examples("ctl lock nightly -- sh -c 'backup && clean'", "ctl lock --ttl=30 nightly"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return badArgs("lock takes a lock name argument and an optional command to execute")
			}
			if ttl <= 0 {
				return badArgs("a lock's --ttl is a number of seconds, and not %d", ttl)
			}
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer t.close(c)
			return t.holdLock(cmd.Context(), c, ttl, args[0], args[1:])
		}),
	}
	cmd.Flags().IntVar(&ttl, "ttl", lockSeconds, "seconds that the lock outlives a holder that is gone")
	return cmd
}

func (t *tool) holdLock(ctx context.Context, c *clientv3.Client, ttl int, name string, command []string) error {
	s, err := t.session(ctx, c, ttl)
	if err != nil {
		return err
	}
	m := concurrency.NewMutex(s, name)
	waiting, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := m.Lock(waiting); err != nil {
		return err
	}
	if len(command) > 0 {
		err := t.runCommand(command, "ETCD_LOCK_KEY="+m.Key(), fmt.Sprintf("ETCD_LOCK_REV=%d", m.Header().Revision))
		return errors.Join(err, m.Unlock(ctx))
	}
	held, err := c.Get(waiting, m.Key())
	if err != nil {
		return err
	}
	if len(held.Kvs) == 0 {
		return errors.New("lock lost on init")
	}
	if err := t.show(output.Get(held, false)); err != nil {
		return err
	}
	select {
	case <-waiting.Done():
		return m.Unlock(ctx)
	case <-s.Done():
		return errors.New("session expired")
	}
}

// session is a lease that lives as long as this process, and at most ttl seconds longer.
func (t *tool) session(ctx context.Context, c *clientv3.Client, ttl int) (*concurrency.Session, error) {
	limited, cancel := t.limit(ctx)
	defer cancel()
	lease, err := c.Grant(limited, int64(ttl))
	if err != nil {
		return nil, err
	}
	return concurrency.NewSession(c, concurrency.WithLease(lease.ID))
}

// runCommand runs a command whose exit code becomes ours. A signal that ends it is 255.
func (t *tool) runCommand(command []string, environ ...string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(environ, slices.Clone(t.env.Environ)...)
	cmd.Stdout, cmd.Stderr = t.env.Stdout, t.env.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fail(exit.ExitCode()&0xff, err)
	}
	return err
}

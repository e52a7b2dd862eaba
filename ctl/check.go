package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/load"
	"holdfast/ctl/term"
)

// cleanupTime bounds each step of the cleaning up after a check: etcd's bound.
const cleanupTime = 30 * time.Second

// errFailed is the verdict, which has been told already.
var errFailed = errors.New("the check has failed")

func (t *tool) check() *cobra.Command {
	c := &cobra.Command{
		Use:     "check <subcommand>",
		Short:   "commands for checking properties of the etcd cluster. Use `" + t.env.Program + " check --help` to see subcommands",
		Long:    "commands for checking properties of the etcd cluster",
		Example: t.examples("ctl check perf --load=m", "ctl check latency --cluster"),
	}
	c.AddCommand(t.checkPerf(), t.checkDatascale(), t.checkLatency(), t.checkTLS())
	return c
}

// checkFlags are those of the checks that write.
type checkFlags struct {
	load, prefix    string
	compact, defrag bool
}

func (f *checkFlags) register(cmd *cobra.Command, what, prefix string) {
	fs := cmd.Flags()
	fs.StringVar(&f.load, "load", "s", "The "+what+" check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge).")
	fs.StringVar(&f.prefix, "prefix", prefix, "The prefix for writing the "+what+" check's keys.")
	fs.BoolVar(&f.compact, "auto-compact", false, "Compact storage with last revision after test is finished.")
	fs.BoolVar(&f.defrag, "auto-defrag", false, "Defragment storage after test is finished.")
	completeWith(cmd, "load", "small", "medium", "large", "xLarge")
}

// checking is one check that writes: its keys and its clients.
type checking struct {
	t       *tool
	flags   checkFlags
	size    workload
	spec    *clientv3.ConfigSpec
	clients []*clientv3.Client
}

// begin makes the clients and sees to it that there are no keys in the way. The caller closes it.
func (t *tool) begin(cmd *cobra.Command, f checkFlags, quote string) (*checking, error) {
	size, known := workloads[f.load]
	if !known {
		return nil, fail(exitBadFeature, fmt.Errorf("unknown load option %s", f.load))
	}
	spec, err := t.clientSpec(cmd)
	if err != nil {
		return nil, err
	}
	c := &checking{t: t, flags: f, size: size, spec: spec}
	if err := c.prepare(cmd.Context(), quote); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *checking) prepare(ctx context.Context, quote string) error {
	for range c.size.clients {
		client, err := c.t.dial(c.spec)
		if err != nil {
			return err
		}
		c.clients = append(c.clients, client)
	}
	ctx, cancel := c.t.limit(ctx)
	defer cancel()
	found, err := c.clients[0].Get(ctx, c.flags.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil {
		return err
	}
	if len(found.Kvs) > 0 {
		return fail(exitInvalidInput, fmt.Errorf("prefix %q has keys. Delete with %setcdctl del --prefix %s%s first",
			c.flags.prefix, quote, c.flags.prefix, quote))
	}
	return nil
}

func (c *checking) Close() error {
	var errs []error
	for _, client := range c.clients {
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}

// run writes as planned; an interrupt ends it early.
func (c *checking) run(ctx context.Context, plan load.Plan, bar *term.Progress) load.Stats {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	kvs := make([]clientv3.KV, len(c.clients))
	for i, client := range c.clients {
		kvs[i] = client
	}
	plan.Prefix, plan.Seed, plan.Now, plan.Timeout = c.flags.prefix, rand.Uint64(), time.Now, cleanupTime
	defer bar.Done()
	return load.Run(ctx, kvs, plan)
}

// cleanUp deletes what was written, and compacts and defragments if that was asked for.
func (c *checking) cleanUp(ctx context.Context) error {
	out := c.t.env.Stdout
	var revision int64
	err := within(ctx, func(ctx context.Context) error {
		deleted, err := c.clients[0].Delete(ctx, c.flags.prefix, clientv3.WithPrefix())
		if err == nil {
			revision = deleted.Header.Revision
		}
		return err
	})
	if err != nil {
		fmt.Fprintf(out, "FAIL: Cleanup failed during key deletion: ERROR(%v)\n", err)
		return nil
	}
	if c.flags.compact {
		fmt.Fprintf(out, "Compacting with revision %d\n", revision)
		err := within(ctx, func(ctx context.Context) error {
			_, err := c.clients[0].Compact(ctx, revision, clientv3.WithCompactPhysical())
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "Compacted with revision %d\n", revision)
	}
	if c.flags.defrag {
		return c.defragAll(ctx, out)
	}
	return nil
}

func (c *checking) defragAll(ctx context.Context, out io.Writer) error {
	for _, endpoint := range c.spec.Endpoints {
		fmt.Fprintf(out, "Defragmenting %q\n", endpoint)
		err := within(ctx, func(ctx context.Context) error {
			_, err := c.clients[0].Defragment(ctx, endpoint)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "Defragmented %q\n", endpoint)
	}
	return nil
}

// within takes one step of the cleaning up, also after an interrupt.
func within(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return step(ctx)
}

func (t *tool) checkPerf() *cobra.Command {
	var f checkFlags
	c := &cobra.Command{
		Use:   "perf [options]",
		Short: "Check the performance of the etcd cluster",
		Long: "Writes for a minute at a rate that grows with the workload: 150, 1000, 8000 or 15000 writes a second, of 50, 200, 500 or 1000 clients.\n" +
			"It passes if nine of ten of these writes succeed, the slowest takes no more than 500 ms and the standard deviation is no more than 100 ms.",
		Example: t.examples("ctl check perf", "ctl check perf --load=l --auto-compact --auto-defrag"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			check, err := t.begin(cmd, f, "'")
			if err != nil {
				return err
			}
			defer check.Close()
			return check.perf(cmd.Context())
		}),
	}
	f.register(c, "performance", "/etcdctl-check-perf/")
	return c
}

func (c *checking) perf(ctx context.Context) error {
	bar := term.NewProgress(c.t.env.Stderr, "writing", int64(perfTime.Seconds())*int64(c.size.rate), term.Keys)
	stats := c.run(ctx, load.Plan{
		Time: perfTime, Rate: c.size.rate, KeySize: perfKeyBytes, Value: make([]byte, perfValueBytes),
		Wrote: func(int) { bar.Add(1) },
	}, bar)
	if err := c.cleanUp(ctx); err != nil {
		return err
	}
	if !sayPerf(c.t.env.Stdout, stats, c.size.rate) {
		return said(exitError, errFailed)
	}
	return nil
}

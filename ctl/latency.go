package ctl

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/load"
)

// latencyLimit is what the way from a client to a member and back may take, by the advice for clients that hold locks.
const latencyLimit = 10 * time.Millisecond

func (t *tool) checkLatency() *cobra.Command {
	var cluster bool
	var count int
	var limit time.Duration
	c := &cobra.Command{
		Use:   "latency [options]",
		Short: "Check how far the members are from this client",
		Long: "Asks each endpoint many times for something that it can answer by itself, and passes it if 99 of 100 answers came within the limit.\n" +
			"What answers take that a majority has to agree on is shown by \"endpoint health --repeat\".",
		Example: t.examples("ctl check latency --cluster", "ctl check latency --limit=5ms --count=1000"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if count < 1 {
				return badArgs("--count must be 1 or more")
			}
			all, err := each(t, cmd, cluster, func(ctx context.Context, c *clientv3.Client, _ string) ([]time.Duration, error) {
				return t.roundTrips(ctx, c, count)
			})
			if err != nil {
				return err
			}
			return t.sayLatency(all, limit)
		}),
	}
	c.Flags().BoolVar(&cluster, "cluster", false, "use all endpoints from the cluster member list")
	c.Flags().IntVar(&count, "count", 100, "how many times to ask each endpoint")
	c.Flags().DurationVar(&limit, "limit", latencyLimit, "what 99 of 100 answers may take at most")
	return c
}

// roundTrips asks a member so many times for what it knows of a key, and returns what the answers took, ascending. A first
// question, which makes the connection, does not count.
func (t *tool) roundTrips(ctx context.Context, c *clientv3.Client, count int) ([]time.Duration, error) {
	p := prober{kv: c, timeout: t.flags.commandTimeout, now: time.Now, opts: []clientv3.OpOption{clientv3.WithSerializable()}}
	var times []time.Duration
	for range count + 1 {
		took, err := p.ask(ctx)
		if err != nil {
			return nil, err
		}
		times = append(times, took)
	}
	times = times[1:]
	slices.Sort(times)
	return times, nil
}

// sayLatency tells what was measured, and the verdict.
func (t *tool) sayLatency(all []asked[[]time.Duration], limit time.Duration) error {
	pass := true
	for _, a := range all {
		verdict, text := "PASS", ""
		p50, p99 := load.Quantile(a.answer, 0.5), load.Quantile(a.answer, 0.99)
		switch {
		case a.err != nil:
			verdict, text = "FAIL", a.err.Error()
		default:
			if p99 > limit {
				verdict = "FAIL"
			}
			text = fmt.Sprintf("p50 = %v, p99 = %v, limit %v", p50, p99, limit)
		}
		pass = pass && verdict == "PASS"
		fmt.Fprintf(t.env.Stdout, "%s: %s: %s\n", verdict, a.endpoint, text)
	}
	if !pass {
		fmt.Fprintln(t.env.Stdout, "FAIL")
		return said(exitError, errFailed)
	}
	_, err := fmt.Fprintln(t.env.Stdout, "PASS")
	return fail(exitIO, err)
}

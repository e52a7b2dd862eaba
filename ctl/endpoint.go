package ctl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/output"
)

func (t *tool) endpoint() *cobra.Command {
	var cluster bool
	c := &cobra.Command{
		Use:     "endpoint <subcommand>",
		Short:   "Endpoint related commands. Use `" + t.env.Program + " endpoint --help` to see subcommands",
		Long:    "Endpoint related commands",
		Example: t.examples("ctl endpoint health --cluster", "ctl endpoint status --cluster -w table"),
	}
	c.PersistentFlags().BoolVar(&cluster, "cluster", false, "use all endpoints from the cluster member list")
	c.AddCommand(t.endpointHealth(&cluster), t.endpointStatus(&cluster), t.endpointHashKV(&cluster))
	return c
}

func (t *tool) endpointHealth(cluster *bool) *cobra.Command {
	var repeat int
	c := &cobra.Command{
		Use:   "health",
		Short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
		Long: "Asks each endpoint for something that needs a majority of the cluster, and whether an alarm is raised.\n" +
			"An endpoint that does not answer, or an alarm, makes the exit code 1.",
		Example: t.examples("ctl endpoint health", "ctl endpoint health --cluster -w table",
			"# How long answers take: the median, and what 99 of 100 do not exceed", "ctl endpoint health --cluster --repeat=100"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if repeat < 1 {
				return badArgs("--repeat must be 1 or more")
			}
			all, err := each(t, cmd, *cluster, func(ctx context.Context, c *clientv3.Client, endpoint string) (output.Health, error) {
				p := prober{kv: c, alarms: c.AlarmList, timeout: t.flags.commandTimeout, now: time.Now}
				return p.probe(ctx, endpoint, repeat), nil
			})
			if err != nil {
				return err
			}
			return t.showHealth(all)
		}),
	}
	c.Flags().IntVar(&repeat, "repeat", 1, "ask so many times, and show the quantiles of what the answers took")
	return c
}

func (t *tool) showHealth(all []asked[output.Health]) error {
	healths := make([]output.Health, len(all))
	healthy := true
	for i, a := range all {
		healths[i] = a.answer
		if a.err != nil { // no client could be made
			healths[i] = output.Health{Endpoint: a.endpoint, Error: a.err.Error()}
		}
		healthy = healthy && healths[i].Error == ""
	}
	if err := t.show(output.Healths(healths)); err != nil {
		return err
	}
	if !healthy {
		return fail(exitError, errors.New("unhealthy cluster"))
	}
	return nil
}

func (t *tool) endpointStatus(cluster *bool) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Prints out the status of endpoints specified in `--endpoints` flag",
		Long: "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.\n" +
			"The items in the lists are endpoint, ID, version, storage version, db size, in use, percentage not in use, quota, is leader, is learner, " +
			"raft term, raft index, raft applied index, errors, downgrade target version, downgrade enabled.\n\n" +
			"With --compat=3.5, or HOLDFAST_CTL_COMPAT=3.5, they are those of etcd 3.4 and 3.5: endpoint, ID, version, db size, is leader, is learner, " +
			"raft term, raft index, raft applied index, errors.",
		Example: t.examples("ctl endpoint status --cluster -w table", "# For scripts that were written for etcd 3.5",
			"HOLDFAST_CTL_COMPAT=3.5 ctl endpoint status -w simple | cut -d, -f 1,3,4"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			all, err := each(t, cmd, *cluster, func(ctx context.Context, c *clientv3.Client, endpoint string) (output.Status, error) {
				ctx, cancel := t.limit(ctx)
				defer cancel()
				answer, err := c.Status(ctx, endpoint)
				return output.Status{Endpoint: endpoint, Status: (*pb.StatusResponse)(answer)}, err
			})
			if err != nil {
				return err
			}
			statuses, failed := answers(t, all, "Failed to get the status of endpoint %s (%v)\n")
			if err := t.show(output.Statuses(statuses, t.layout)); err != nil {
				return err
			}
			return said(exitError, failed)
		}),
	}
}

func (t *tool) endpointHashKV(cluster *bool) *cobra.Command {
	var revision int64
	c := &cobra.Command{
		Use:     "hashkv",
		Short:   "Prints the KV history hash for each endpoint in --endpoints",
		Long:    "Prints the hash of the history that each endpoint keeps, up to a revision. Members that have compacted up to the same revision must agree.",
		Example: t.examples("ctl endpoint hashkv --cluster", "ctl endpoint hashkv --cluster --rev=1000"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			all, err := each(t, cmd, *cluster, func(ctx context.Context, c *clientv3.Client, endpoint string) (output.HashKV, error) {
				ctx, cancel := t.limit(ctx)
				defer cancel()
				answer, err := c.HashKV(ctx, endpoint, revision)
				return output.HashKV{Endpoint: endpoint, HashKV: (*pb.HashKVResponse)(answer)}, err
			})
			if err != nil {
				return err
			}
			hashes, failed := answers(t, all, "Failed to get the hash of endpoint %s (%v)\n")
			if err := t.show(output.Hashes(hashes, t.layout)); err != nil {
				return err
			}
			return fail(exitError, failed)
		}),
	}
	c.PersistentFlags().Int64Var(&revision, "rev", 0, "maximum revision to hash (default: latest revision)")
	return c
}

// asked is what came of asking one endpoint.
type asked[T any] struct {
	endpoint string
	answer   T
	err      error
}

// each asks all endpoints at the same time, each through a client of its own, and returns what came of it in their order.
func each[T any](t *tool, cmd *cobra.Command, cluster bool, ask func(context.Context, *clientv3.Client, string) (T, error)) ([]asked[T], error) {
	spec, err := t.clientSpec(cmd)
	if err != nil {
		return nil, err
	}
	endpoints, err := t.asking(cmd.Context(), spec, cluster)
	if err != nil {
		return nil, err
	}
	all, clients := make([]asked[T], len(endpoints)), make([]*clientv3.Client, len(endpoints))
	var group sync.WaitGroup
	for i, endpoint := range endpoints {
		group.Go(func() {
			all[i].endpoint = endpoint
			c, err := t.dial(at(spec, endpoint))
			if err != nil {
				all[i].err = err
				return
			}
			clients[i] = c
			all[i].answer, all[i].err = ask(cmd.Context(), c, endpoint)
		})
	}
	group.Wait()
	for _, c := range clients { // only now: closing one silences the warnings of all
		if c != nil {
			t.close(c)
		}
	}
	return all, nil
}

// at is the description of a client of one endpoint.
func at(spec *clientv3.ConfigSpec, endpoint string) *clientv3.ConfigSpec {
	one := *spec
	one.Endpoints = []string{endpoint}
	return &one
}

// asking returns whom to ask: the endpoints that were given, or those that the cluster's members advertise.
func (t *tool) asking(ctx context.Context, spec *clientv3.ConfigSpec, cluster bool) ([]string, error) {
	if !cluster {
		return spec.Endpoints, nil
	}
	c, err := t.dial(spec)
	if err != nil {
		return nil, err
	}
	defer t.close(c)
	ctx, cancel := t.limit(ctx)
	defer cancel()
	answer, err := c.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to fetch endpoints from etcd cluster member list: %w", err)
	}
	var endpoints []string
	for _, m := range answer.Members {
		endpoints = append(endpoints, m.ClientURLs...)
	}
	return endpoints, nil
}

// answers sorts out what came of asking: failures are told in the given words, and the last is returned.
func answers[T any](t *tool, all []asked[T], words string) (got []T, failed error) {
	for _, a := range all {
		if a.err == nil {
			got = append(got, a.answer)
			continue
		}
		failed = a.err
		fmt.Fprintf(t.env.Stderr, words, a.endpoint, a.err)
	}
	return got, failed
}

package ctl

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (t *tool) defrag() *cobra.Command {
	var cluster bool
	c := &cobra.Command{
		Use:   "defrag",
		Short: "Defragments the storage of the etcd members with given endpoints",
		Long: "Gives the free space of members back to their file systems, one member after the other.\n\n" +
			"A member of etcd does not answer meanwhile, so --command-timeout must be long enough. Members of Holdfast have nothing to do.",
		Example: t.examples("ctl defrag --cluster", "ctl defrag --endpoints=10.0.0.1:2379 --command-timeout=2m"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			spec, err := t.clientSpec(cmd)
			if err != nil {
				return err
			}
			endpoints, err := t.asking(cmd.Context(), spec, cluster)
			if err != nil {
				return err
			}
			var failed error
			for _, endpoint := range endpoints {
				failed = errors.Join(failed, t.defragOne(cmd, spec, endpoint))
			}
			return said(exitError, failed)
		}),
	}
	c.PersistentFlags().BoolVar(&cluster, "cluster", false, "use all endpoints from the cluster member list")
	return c
}

// defragOne defragments one member, and tells how that went.
func (t *tool) defragOne(cmd *cobra.Command, spec *clientv3.ConfigSpec, endpoint string) error {
	c, err := t.dial(at(spec, endpoint))
	if err != nil {
		return err
	}
	defer t.close(c)
	ctx, cancel := t.limit(cmd.Context())
	defer cancel()
	start := time.Now()
	_, err = c.Defragment(ctx, endpoint)
	took := time.Since(start)
	if err != nil {
		fmt.Fprintf(t.env.Stderr, "Failed to defragment etcd member[%s]. took %s. (%v)\n", endpoint, took, err)
		return err
	}
	_, err = fmt.Fprintf(t.env.Stdout, "Finished defragmenting etcd member[%s]. took %s\n", endpoint, took)
	return err
}

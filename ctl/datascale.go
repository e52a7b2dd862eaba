package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/ctl/load"
	"holdfast/ctl/term"
)

func (t *tool) checkDatascale() *cobra.Command {
	var f checkFlags
	c := &cobra.Command{
		Use:   "datascale [options]",
		Short: "Check the memory usage of holding data for different workloads on a given server endpoint.",
		Long: "Writes 10 thousand, 100 thousand, 1 million or 3 million keys and tells how much more memory the first endpoint's process has then, by its /metrics.\n" +
			"The keys are deleted afterwards.",
		Example: t.examples("ctl check datascale", "ctl check datascale --load=m --auto-compact --auto-defrag"),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			check, err := t.begin(cmd, f, "")
			if err != nil {
				return err
			}
			defer check.Close()
			return check.datascale(cmd.Context())
		}),
	}
	f.register(c, "datascale", "/etcdctl-check-datascale/")
	return c
}

func (c *checking) datascale(ctx context.Context) error {
	out := c.t.env.Stdout
	before, err := c.memory(ctx, "before")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Start data scale check for work load [%d key-value pairs, %d bytes per key-value, %d concurrent clients].\n",
		c.size.keys, scaleKeyBytes+scaleValueBytes, c.size.clients)
	bar := term.NewProgress(c.t.env.Stderr, "writing", int64(c.size.keys), term.Keys)
	stats := c.run(ctx, load.Plan{
		Keys: c.size.keys, KeySize: scaleKeyBytes, Value: make([]byte, scaleValueBytes), Wrote: func(int) { bar.Add(1) },
	}, bar)
	after, err := c.memory(ctx, "after")
	if err := errors.Join(err, c.cleanUp(ctx)); err != nil {
		return err
	}
	if !sayErrors(out, stats.Errors) {
		return said(exitError, errFailed)
	}
	_, err = fmt.Fprintf(out, "PASS: Approximate system memory used : %.2f MB.\n", (after-before)/(1<<20))
	return fail(exitIO, err)
}

// memory is what the first endpoint's process occupies, in bytes.
func (c *checking) memory(ctx context.Context, when string) (float64, error) {
	bytes, err := residentMemory(ctx, c.spec)
	if err != nil {
		fmt.Fprintf(c.t.env.Stdout, "fetch error: %v\nFAIL: Could not read %s %s the put operations.\n", err, residentMetric, when)
		return 0, said(exitError, errFailed)
	}
	return bytes, nil
}

const residentMetric = "process_resident_memory_bytes"

// residentMemory asks the first endpoint's /metrics, with the certificates that its gRPC is asked with.
func residentMemory(ctx context.Context, spec *clientv3.ConfigSpec) (float64, error) {
	endpoint := spec.Endpoints[0]
	if !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		endpoint = "http://" + endpoint
	}
	cfg, err := clientv3.NewClientConfig(spec, nil)
	if err != nil {
		return 0, err
	}
	transport := &http.Transport{TLSClientConfig: cfg.TLS}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s/metrics: %s", endpoint, answer.Status)
	}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), residentMetric+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(lines.Err(), fmt.Errorf("%s/metrics has no %s", endpoint, residentMetric))
}

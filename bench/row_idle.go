package main

import (
	"context"
	"slices"
	"time"
)

const (
	idleSettle = 5 * time.Second // what a start leaves to do is not idleness
	idleFor    = 60 * time.Second
)

// idle looks at a member that has nothing to do.
func idle(ctx context.Context, t *task) error {
	server, err := t.startServer(ctx)
	if err != nil {
		return err
	}
	defer server.Kill()
	t.record.Params = map[string]any{"measured_s": idleFor.Seconds()}
	if err := pause(ctx, idleSettle); err != nil {
		return err
	}
	before, err := readMeter(server.Pid())
	if err != nil {
		return err
	}
	memory := sample(ctx, server.Pid(), nil)
	t.status("idle for %v", idleFor)
	interrupted := pause(ctx, idleFor)
	cost, err := before.since()
	anonymous, sampled := memory.end()
	for _, err := range []error{interrupted, err, sampled} {
		if err != nil {
			return err
		}
	}
	t.record.Values["anonymous_mb"] = anonymous[len(anonymous)-1]
	t.record.Values["anonymous_max_mb"] = slices.Max(anonymous)
	t.record.Values["server_cores"] = cost.server.Seconds() / cost.wall.Seconds()
	t.record.Values["written_bytes_per_s"] = float64(cost.written) / cost.wall.Seconds()
	t.record.Values["others_cores"] = cost.others
	return t.diskUse(server)
}

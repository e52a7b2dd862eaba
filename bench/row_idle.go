package bench

import (
	"context"
	"slices"
	"time"
)

const (
	idleSettle = 5 * time.Second // what a start leaves to do is not idleness
	idleFor    = 30 * time.Second
)

// idle looks at members that have nothing to do.
func idle(ctx context.Context, t *task, members int) error {
	m, err := t.start(ctx, setup{members: members})
	if err != nil {
		return err
	}
	defer m.kill()
	length := t.span(idleFor, measureShort)
	t.record.Params["measured_s"], t.record.Params["members"] = length.Seconds(), members
	if err := pause(ctx, t.span(idleSettle, warmShort)); err != nil {
		return err
	}
	before, err := readMeter(m.pids()...)
	if err != nil {
		return err
	}
	memory := sample(ctx, m.pids(), nil)
	t.status("idle for %v", length)
	interrupted := pause(ctx, length)
	cost, err := before.since()
	anonymous, sampled := memory.end()
	for _, err := range []error{interrupted, err, sampled} {
		if err != nil {
			return err
		}
	}
	cost.perTime(t.record.Values)
	t.record.Values["anonymous_max_mb"] = slices.Max(anonymous)
	return t.held(m)
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	idleSettle = 5 * time.Second // what a start leaves to do is not idleness
	idleFor    = 15 * time.Second
)

// small are the settings of a cluster that an operator of Kubernetes starts for a storage system: 2 GB of quota, a thousand revisions kept,
// 300 MiB asked for each of three members. Here each gets no more.
var small = struct {
	args  []string
	bytes int64
}{[]string{"--quota-backend-bytes=2147483648", "--auto-compaction-mode=revision", "--auto-compaction-retention=1000"}, 300 << 20}

// idleSmall looks at three members that have nothing to do, each in a memory group.
func idleSmall(ctx context.Context, t *task) (err error) {
	const members = 3
	var groups []memoryGroup
	defer func() { // when the members have ended
		for _, g := range groups {
			err = errors.Join(err, g.remove())
		}
	}()
	for i := range members {
		g, err := newMemoryGroup(fmt.Sprintf("holdfast-bench-%d-%d", time.Now().UnixNano(), i), small.bytes)
		if err != nil {
			return err
		}
		groups = append(groups, g)
	}
	err = idle(ctx, t, setup{members: members, args: small.args, within: func(member int) []string { return groups[member].within() }})
	for _, g := range groups {
		peak, failed := g.peakMB()
		err = errors.Join(err, failed)
		t.record.Values["group_peak_mb"] = max(t.record.Values["group_peak_mb"], peak)
	}
	return err
}

// idle looks at members that have nothing to do.
func idle(ctx context.Context, t *task, s setup) error {
	m, err := t.start(ctx, s)
	if err != nil {
		return err
	}
	defer m.kill()
	length := t.span(idleFor, measureShort)
	t.record.Params["measured_s"], t.record.Params["members"], t.record.Params["args"] = length.Seconds(), len(m.servers), s.args
	if err := pause(ctx, t.span(idleSettle, warmShort)); err != nil {
		return err
	}
	before, err := readMeters(m.pids())
	if err != nil {
		return err
	}
	memory := sample(ctx, m.pids(), nil)
	t.status("idle for %v", length)
	interrupted := pause(ctx, length)
	anonymous, sampled := memory.end()
	for _, err := range []error{interrupted, sampled} {
		if err != nil {
			return err
		}
	}
	t.record.Values["anonymous_max_mb"] = slices.Max(anonymous)
	return errors.Join(t.idled(before), t.held(m))
}

// readMeters reads a meter for each process.
func readMeters(pids []int) ([]meter, error) {
	var all []meter
	for _, pid := range pids {
		m, err := readMeter(pid)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// idled records what all members together took since before, and the most that one of them did.
func (t *task) idled(before []meter) error {
	v := t.record.Values
	for _, m := range before {
		cost, err := m.since()
		if err != nil {
			return err
		}
		one := values{}
		cost.perTime(one)
		v["server_cores"] += one["server_cores"]
		v["written_bytes_per_s"] += one["written_bytes_per_s"]
		v["cores_most"] = max(v["cores_most"], one["server_cores"])
		held, err := memoryOf(m.pids[0])
		if err != nil {
			return err
		}
		v["anonymous_most_mb"] = max(v["anonymous_most_mb"], held.anonymous)
		v["others_cores"] = max(0, one["others_cores"]+one["server_cores"]-v["server_cores"])
	}
	return nil
}

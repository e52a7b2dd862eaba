package bench

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	historyRevisions = 1_000_000
	historyKeys      = 100_000
	compactIdle      = 800_000
	// compactBefore is how long is looked at puts before a compaction: merges of tables come every 20 s, and what is compared with should have its share of
	// them. compactLeast is how long from its beginning on.
	compactBefore, compactLeast = time.Minute, 15 * time.Second
)

// historyStock is keys with a long past.
var historyStock = &stock{name: "history", fill: func(ctx context.Context, t *task, m *members) error {
	keys := t.n(historyKeys, historyKeys/historyRevisions*keysShort+1)
	return fill(ctx, m, writes{n: t.n(historyRevisions, keysShort), turn: func(i int) *pb.PutRequest {
		return &pb.PutRequest{Key: key(i * keyStride % keys), Value: value(i, valueBytes)}
	}})
}}

func compactRows() []row {
	return []row{
		{
			name:  "compact-idle",
			asks:  fmt.Sprintf("how long does an idle member take to remove %d revisions?", compactIdle),
			heavy: true,
			show:  []string{"compact_s", "server_cpu_s", "written_mb", "anonymous_mb", "resident_mb", "disk_mb", "others_cores"},
			run:   compactAlone,
		},
		{
			name:  "compact-serving",
			asks:  fmt.Sprintf("what do puts, at half of the rate that is etcd's most, feel of the removal of %d revisions?", historyRevisions),
			heavy: true,
			show: []string{"p99_us_ratio", "before_p50_us", "before_p99_us", "before_max_us", "during_p50_us", "during_p99_us", "during_max_us",
				"before_per_s", "during_per_s", "compact_s", "server_cores", "anonymous_mb", "resident_mb", "disk_mb", "others_cores"},
			run: compactServing,
		},
		{
			name:  "defragment",
			asks:  fmt.Sprintf("what do %d puts a second feel of a defragmentation of 2 GB?", defragRate),
			heavy: true,
			show: []string{"max_us_ratio", "defragment_s", "before_max_us", "during_p99_us", "during_max_us", "before_p99_us", "anonymous_mb", "resident_mb", "disk_mb",
				"others_cores"},
			run: defragment,
		},
	}
}

// compact removes all revisions below one and returns, when they are gone, how long that took.
func compact(ctx context.Context, c *clients, revision int64) (time.Duration, error) {
	began := time.Now()
	_, err := c.kvs[0].Compact(ctx, &pb.CompactionRequest{Revision: revision, Physical: true})
	return time.Since(began), err
}

func compactAlone(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{stock: historyStock})
	if err != nil {
		return err
	}
	defer m.kill()
	c, err := m.dial(1)
	if err != nil {
		return err
	}
	defer c.close()
	if err := pause(ctx, t.span(warmFor, warmShort)); err != nil {
		return err
	}
	revisions := t.n(compactIdle, keysShort/2)
	t.record.Params["revisions"], t.record.Params["value_bytes"] = revisions, valueBytes
	before, err := readMeter(m.pids()...)
	if err != nil {
		return err
	}
	t.status("compacting")
	took, err := compact(ctx, c, int64(revisions)+1)
	if err != nil {
		return err
	}
	cost, err := before.since()
	if err != nil {
		return err
	}
	cost.perTime(t.record.Values)
	t.record.Values["compact_s"], t.record.Values["server_cpu_s"] = took.Seconds(), cost.server().Seconds()
	t.record.Values["written_mb"] = float64(cost.written) / mb
	return t.held(m)
}

func compactServing(ctx context.Context, t *task) error {
	keys := t.n(historyKeys, keysShort)
	return disturbed{
		setup: setup{stock: historyStock},
		rate:  t.halfRate(),
		quiet: t.span(compactBefore, measureShort),
		least: t.span(compactLeast, measureShort),
		put:   func(c *clients) func(context.Context, int) error { return putScattered(c, keys) },
		disturb: func(ctx context.Context, c *clients) error {
			took, err := compact(ctx, c, int64(t.n(historyRevisions, keysShort))+1)
			t.record.Values["compact_s"] = took.Seconds()
			return err
		},
	}.run(ctx, t)
}

const (
	defragKeys, defragBytes = 200_000, 10 << 10
	defragRate              = 500
	defragQuiet             = 5 * time.Second
	defragLeast             = 2 * time.Second
)

// defragStock is 2 GB.
var defragStock = &stock{name: "2gb", args: []string{roomArg}, fill: func(ctx context.Context, t *task, m *members) error {
	return fill(ctx, m, writes{n: t.n(defragKeys, keysShort/10), turn: func(i int) *pb.PutRequest {
		return &pb.PutRequest{Key: objectKey(i), Value: value(i, defragBytes)}
	}})
}}

func defragment(ctx context.Context, t *task) error {
	return disturbed{
		setup: setup{stock: defragStock, inPlace: true},
		rate:  defragRate,
		quiet: t.span(defragQuiet, measureShort),
		least: t.span(defragLeast, measureShort),
		put:   func(c *clients) func(context.Context, int) error { return putScattered(c, keysFew) },
		disturb: func(ctx context.Context, c *clients) error {
			began := time.Now()
			_, err := pb.NewMaintenanceClient(c.conns[0]).Defragment(ctx, &pb.DefragmentRequest{})
			t.record.Values["defragment_s"] = time.Since(began).Seconds()
			return err
		},
	}.run(ctx, t)
}

// disturbed is puts at a rate, and something that happens meanwhile.
type disturbed struct {
	setup
	rate         float64
	quiet, least time.Duration // before it begins, and from then on, even if it ends sooner
	put          func(c *clients) func(ctx context.Context, i int) error
	disturb      func(ctx context.Context, c *clients) error
}

func (d disturbed) run(ctx context.Context, t *task) error {
	m, err := t.start(ctx, d.setup)
	if err != nil {
		return err
	}
	defer m.kill()
	c, err := m.dial(halfConns)
	if err != nil {
		return err
	}
	defer c.close()
	t.record.Params["rate_per_s"], t.record.Params["before_s"] = d.rate, d.quiet.Seconds()
	warm := t.span(pacedWarmUp, warmShort)
	putting, end := context.WithCancel(ctx)
	defer end()
	disturbance := make(chan error, 1)
	var cost spent
	began, during := time.Now(), time.Duration(0)
	go func() { // ends with putting, or is what ends it
		defer end()
		disturbance <- func() error {
			if err := pause(putting, warm+d.quiet); err != nil {
				return err
			}
			before, err := readMeter(m.pids()...)
			if err != nil {
				return err
			}
			at := time.Now()
			t.status("disturbing")
			if err := d.disturb(putting, c); err != nil {
				return err
			}
			if err := pause(putting, d.least-time.Since(at)); err != nil {
				return err
			}
			during = time.Since(began)
			cost, err = before.since()
			return err
		}()
	}()
	all, err := paced{d.rate, d.put(c)}.run(putting)
	if failed := <-disturbance; failed != nil && err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	quiet, loud := tookIn(all, warm, warm+d.quiet), tookIn(all, warm+d.quiet, during)
	v := t.record.Values
	for name, took := range map[string][]time.Duration{"before_": quiet, "during_": loud} {
		v[name+"p50_us"], v[name+"p99_us"], v[name+"max_us"] = us(quantile(took, 0.5)), us(quantile(took, 0.99)), us(quantile(took, 1))
	}
	v["before_per_s"], v["during_per_s"] = answeredPerSecond(all, warm, warm+d.quiet), answeredPerSecond(all, warm+d.quiet, during)
	if v["before_p99_us"] > 0 {
		v["p99_us_ratio"], v["max_us_ratio"] = v["during_p99_us"]/v["before_p99_us"], v["during_max_us"]/v["before_max_us"]
	}
	cost.perTime(v)
	return t.held(m)
}

package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// loadSteps is how often rate and memory are taken in the course of a load.
const loadSteps = 10

// keyLoad is n keys written once each.
type keyLoad struct {
	n       int
	turn    func(i int) *pb.PutRequest // nil: in scattered order
	batch   int                        // puts in a transaction; 0: each by itself
	callers int
}

var showLoad = []string{"ops_per_s", "first_per_s", "second_per_s", "last_per_s", "last_to_second", "server_us_per_op", "p50_us", "p99_us", "max_us", "anonymous_first_mb",
	"anonymous_max_mb", "disk_mb", "written_bytes_per_op", "others_cores"}

// measure writes the keys to m and records how that went.
func (l keyLoad) measure(ctx context.Context, t *task, m *members) error {
	c, err := m.dial(t.n(l.callers, 50))
	if err != nil {
		return err
	}
	defer c.close()
	n := t.n(l.n, keysShort)
	t.record.Params["keys"], t.record.Params["callers"], t.record.Params["value_bytes"] = n, len(c.kvs), valueBytes
	t.record.Params["puts_per_call"] = max(1, l.batch)
	before, err := readMeter(m.pids()...)
	if err != nil {
		return err
	}
	steps := newSteps(t, before.at, n)
	memory := sample(ctx, m.pids(), steps.memory)
	loop := start(ctx, writes{n: n, turn: l.turn, batch: l.batch, done: steps.written}.callers(c))
	loop.phase.Store(measuring)
	took, failed := loop.wait()
	cost, err := before.since()
	_, sampled := memory.end()
	for _, err := range []error{failed, err, sampled, ctx.Err()} {
		if err != nil {
			return err
		}
	}
	cost.perOp(n, t.record.Values)
	latencies(took, t.record.Values)
	steps.into(&t.record)
	return t.held(m)
}

// load writes a million keys, which become the stock of others unless they have it already.
func load(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{})
	if err != nil {
		return err
	}
	defer m.kill()
	if err := (keyLoad{n: keysBase, callers: baseCallers}).measure(ctx, t, m); err != nil {
		return err
	}
	stock := t.stockDir(stockKeys(keysBase).name)
	if _, err := os.Stat(stock); err == nil {
		return nil
	}
	return t.stockUp(t.dir, stock, m)
}

// sequential writes keys in their order, as etcd's own benchmark does when asked to.
func sequential(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{args: []string{roomArg}})
	if err != nil {
		return err
	}
	defer m.kill()
	return keyLoad{n: keysSequential, callers: baseCallers, turn: func(i int) *pb.PutRequest {
		return &pb.PutRequest{Key: key(i), Value: value(i, valueBytes)}
	}}.measure(ctx, t, m)
}

// keysSequential and keysMany are the sizes of the two longest loads.
const keysSequential, keysMany = 2_000_000, 10_000_000

// manyBatch is how many puts of the longest load share a transaction: one by one they would take a quarter of an hour, most of it in
// gRPC, and the question is for the store.
const manyBatch = 50

// many writes ten million keys, then asks how puts and gets are among so many, and how soon a member with them is back.
func many(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{args: []string{roomArg}})
	if err != nil {
		return err
	}
	defer m.kill()
	if err := (keyLoad{n: keysMany, batch: manyBatch, callers: fillCallers}).measure(ctx, t, m); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		call func(kv pb.KVClient, i int) caller
	}{
		{"put", func(kv pb.KVClient, i int) caller { return put(kv, t.random(i), t.n(keysMany, keysShort), valueBytes) }},
		{"get", func(kv pb.KVClient, i int) caller { return get(kv, t.random(i), t.n(keysMany, keysShort), false) }},
	} {
		if err := t.among(ctx, m, part.name, part.call); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if err := m.stop(); err != nil {
		return err
	}
	return t.restartOnce(ctx, m, "stopped")
}

// among measures calls like a row of their own, and records their cost under names that begin with name.
func (t *task) among(ctx context.Context, m *members, name string, call func(kv pb.KVClient, i int) caller) error {
	c, err := m.dial(t.n(baseCallers, 50))
	if err != nil {
		return err
	}
	defer c.close()
	callers := make([]caller, len(c.kvs))
	for i, kv := range c.kvs {
		callers[i] = call(kv, i)
	}
	one := &task{suite: t.suite, side: t.side, what: t.what, record: newRecord()}
	if err := one.measureCalls(ctx, m, callers); err != nil {
		return err
	}
	for _, v := range []string{"ops_per_s", "server_us_per_op", "p99_us"} {
		t.record.Values[name+"_"+v] = one.record.Values[v]
	}
	return nil
}

// steps takes rate and memory in the course of a load.
type steps struct {
	t     *task
	began time.Time
	keys  int64          // of a step
	ends  []atomic.Int64 // when a step was complete, in nanoseconds since began
	peaks []atomic.Int64 // the most anonymous memory during the step, in KB
	step  atomic.Int64   // the one under way
}

// newSteps divides n keys, a multiple of loadSteps.
func newSteps(t *task, began time.Time, n int) *steps {
	return &steps{
		t: t, began: began, keys: int64(n / loadSteps), ends: make([]atomic.Int64, loadSteps), peaks: make([]atomic.Int64, loadSteps),
	}
}

// written hears of every answer, from any caller.
func (s *steps) written(n int64) {
	if n%s.keys != 0 {
		return
	}
	s.ends[n/s.keys-1].Store(int64(time.Since(s.began)))
	s.step.Store(min(n/s.keys, int64(len(s.ends))-1))
	s.t.status("%d keys", n)
}

// memory hears of every look at the server's memory, from one goroutine.
func (s *steps) memory(mb float64) {
	peak := &s.peaks[s.step.Load()]
	peak.Store(max(peak.Load(), int64(mb*1024)))
}

// into records the steps when all are over.
func (s *steps) into(r *record) {
	var rates, peaks []float64
	var last int64
	for i := range s.ends {
		end := s.ends[i].Load()
		rates = append(rates, float64(s.keys)/time.Duration(end-last).Seconds())
		last = end
		peaks = append(peaks, float64(s.peaks[i].Load())/1024)
	}
	r.Series["keys_per_s"], r.Series["anonymous_load_mb"] = rates, peaks
	r.Values["first_per_s"], r.Values["second_per_s"], r.Values["last_per_s"] = rates[0], rates[1], rates[len(rates)-1]
	r.Values["last_to_second"] = rates[len(rates)-1] / rates[1]
	r.Values["anonymous_first_mb"], r.Values["anonymous_max_mb"] = peaks[0], slices.Max(peaks)
}

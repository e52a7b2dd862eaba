package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/run"
)

const (
	keysLoad    = 1_000_000
	stepKeys    = 100_000 // the rate is taken once per step
	loadCallers = 1000

	// keyStride has no factor in common with keysLoad: the nth write goes to key n*keyStride mod keysLoad, so that each
	// is written once and neighbours in time are none in the order of keys, as names of pods are none.
	keyStride = 7919

	// staleKeys are overwritten before a server is killed, so that a log has to be replayed: 14 MB of payload, about half
	// of what may be waiting.
	staleKeys = 50_000

	// settleFor is how long after its first answer a member's memory is looked at again.
	settleFor = 5 * time.Second
)

// eachOnce makes callers that together write n keys, each once. done, if given, hears how many are answered.
func eachOnce(c *clients, n int, done func(written int64)) []caller {
	var next, answered atomic.Int64
	callers := make([]caller, len(c.kvs))
	for i, kv := range c.kvs {
		q := &pb.PutRequest{}
		callers[i] = func(ctx context.Context) error {
			turn := int(next.Add(1)) - 1
			if turn >= n {
				return errDone
			}
			q.Key, q.Value = key(turn*keyStride%n), value(turn, valueBytes)
			if _, err := kv.Put(ctx, q); err != nil {
				return err
			}
			if now := answered.Add(1); done != nil {
				done(now)
			}
			return nil
		}
	}
	return callers
}

// load writes a million keys, kills the server without warning and leaves it to the row restart.
func load(ctx context.Context, t *task) (err error) {
	server, err := t.startServer(ctx)
	if err != nil {
		return err
	}
	defer server.Kill()
	c, err := dial(server.Client, loadCallers)
	if err != nil {
		return err
	}
	defer c.close()
	t.record.Params = map[string]any{
		"keys": keysLoad, "callers": loadCallers, "connections": len(c.conns), "value_bytes": valueBytes,
	}
	before, err := readMeter(server.Pid())
	if err != nil {
		return err
	}
	steps := newSteps(t, before.at)
	memory := sample(ctx, server.Pid(), steps.memory)
	l := start(ctx, eachOnce(c, keysLoad, steps.written))
	l.phase.Store(measuring)
	took, failed := l.wait()
	cost, err := before.since()
	anonymous, sampled := memory.end()
	for _, err := range []error{failed, err, sampled, ctx.Err()} {
		if err != nil {
			return err
		}
	}
	cost.perOp(len(took), t.record.Values)
	latencies(took, t.record.Values)
	steps.into(&t.record)
	t.record.Values["anonymous_end_mb"] = anonymous[len(anonymous)-1]
	if err := t.diskUse(server); err != nil {
		return err
	}
	server.Kill()
	t.loaded[t.side.name] = server
	return nil
}

// diskUse records what the data folder occupies.
func (t *task) diskUse(server *run.Server) error {
	total, parts, err := diskOf(server.Data)
	if err != nil {
		return fmt.Errorf("count the bytes on disk: %w", err)
	}
	t.record.Values["disk_mb"] = total
	for part, size := range parts {
		t.record.Values["disk_"+part+"_mb"] = size
	}
	return nil
}

// steps takes rate and memory per stepKeys keys.
type steps struct {
	t     *task
	began time.Time
	ends  [keysLoad / stepKeys]atomic.Int64 // when a step was complete, in nanoseconds since began
	peaks [keysLoad / stepKeys]atomic.Int64 // the most anonymous memory during the step, in KB
	step  atomic.Int64                      // the one under way
}

func newSteps(t *task, began time.Time) *steps { return &steps{t: t, began: began} }

// written hears of every answer, from any caller.
func (s *steps) written(n int64) {
	if n%stepKeys != 0 {
		return
	}
	s.ends[n/stepKeys-1].Store(int64(time.Since(s.began)))
	s.step.Store(min(n/stepKeys, int64(len(s.ends))-1))
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
	highest := 0.0
	for i := range s.ends {
		end := s.ends[i].Load()
		rates = append(rates, stepKeys/time.Duration(end-last).Seconds())
		last = end
		peaks = append(peaks, float64(s.peaks[i].Load())/1024)
		highest = max(highest, peaks[i])
	}
	r.Series["keys_per_s"], r.Series["anonymous_mb"] = rates, peaks
	r.Values["first_per_s"], r.Values["last_per_s"] = rates[0], rates[len(rates)-1]
	r.Values["anonymous_first_mb"], r.Values["anonymous_max_mb"] = peaks[0], highest
}

// restart finds out how soon a server answers again after kill -9 and after a stop. The clock runs from the start of the
// process to the answer of a linearizable read; test/run asks every 20 ms.
func restart(ctx context.Context, t *task) error {
	server, err := t.loadedServer(ctx)
	if err != nil {
		return err
	}
	defer server.Kill()
	t.record.Params = map[string]any{"keys": keysLoad, "value_bytes": valueBytes, "settle_s": settleFor.Seconds()}
	if err := t.restartOnce(ctx, server, "killed"); err != nil {
		return err
	}
	t.status("stopping")
	began := time.Now()
	if err := server.Stop(); err != nil {
		return err
	}
	t.record.Values["stop_s"] = time.Since(began).Seconds()
	if err := t.restartOnce(ctx, server, "stopped"); err != nil {
		return err
	}
	if err := t.diskUse(server); err != nil {
		return err
	}
	t.status("overwriting %d keys", staleKeys)
	return overwrite(ctx, server.Client, t.record.Round) // the next round finds it killed after that
}

// restartOnce starts a server that has ended and records time and memory under names that begin with how it ended.
func (t *task) restartOnce(ctx context.Context, server *run.Server, how string) error {
	t.status("starting what was %s", how)
	began := time.Now()
	if err := server.Restart(ctx); err != nil {
		return err
	}
	t.record.Values[how+"_answer_s"] = time.Since(began).Seconds()
	m, err := memoryOf(server.Pid())
	if err != nil {
		return err
	}
	t.record.Values[how+"_anonymous_mb"], t.record.Values[how+"_peak_mb"] = m.anonymous, m.peak
	if err := pause(ctx, settleFor); err != nil {
		return err
	}
	if m, err = memoryOf(server.Pid()); err != nil {
		return err
	}
	t.record.Values[how+"_settled_mb"] = m.anonymous
	return nil
}

// loadedServer returns the side's killed server with a million keys, and makes it when the row load did not.
func (t *task) loadedServer(ctx context.Context) (*run.Server, error) {
	if t.loaded[t.side.name] == nil {
		dir, err := os.MkdirTemp(t.scratch, "load-")
		if err != nil {
			return nil, fmt.Errorf("make room for data: %w", err)
		}
		unrecorded := &task{suite: t.suite, side: t.side, dir: dir, what: t.what}
		unrecorded.record = record{Values: values{}, Series: map[string][]float64{}}
		if err := load(ctx, unrecorded); err != nil {
			return nil, err
		}
	}
	return t.loaded[t.side.name], nil
}

// overwrite gives staleKeys of the loaded keys new values.
func overwrite(ctx context.Context, addr string, round int) error {
	c, err := dial(addr, fillCallers)
	if err != nil {
		return err
	}
	defer c.close()
	var left atomic.Int64
	left.Store(staleKeys)
	callers := make([]caller, fillCallers)
	for i, kv := range c.kvs {
		r := rand.New(rand.NewPCG(uint64(round), uint64(i)))
		callers[i] = func(ctx context.Context) error {
			if left.Add(-1) < 0 {
				return errDone
			}
			_, err := kv.Put(ctx, &pb.PutRequest{Key: key(r.IntN(keysLoad)), Value: value(r.IntN(1<<20), valueBytes)})
			return err
		}
	}
	_, err = start(ctx, callers).wait()
	return err
}

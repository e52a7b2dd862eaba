package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	bulkRanges, bulkKeys, bulkBytes = 40, 20_000, 10 << 10 // 200 MB each
	bulkLimit                       = 1 << 30
	bulkPutters                     = 50
	bulkQuiet                       = 4 * time.Second
	bulkRetry                       = 200 * time.Millisecond // before a call that was turned away is made again
	bulkPatience                    = 90 * time.Second       // for all of them
	// bulkIdle is after how long without a byte a range counts as not in work; bulkLook is how often that is looked at.
	bulkIdle, bulkLook = 2 * time.Second, 100 * time.Millisecond
)

var bulkStock = &stock{name: "bulk", fill: func(ctx context.Context, t *task, m *members) error {
	return fill(ctx, m, writes{n: t.n(bulkKeys, keysShort/10), turn: func(i int) *pb.PutRequest {
		return &pb.PutRequest{Key: objectKey(i), Value: value(i, bulkBytes)}
	}})
}}

func bulkRow() row {
	return row{
		name: "ranges-40",
		asks: fmt.Sprintf("does a member limited to 1 GiB survive %d ranges of 200 MB at once, and what do puts feel?", bulkRanges),

		heavy: true,
		show: []string{"succeeded", "killed", "all_s", "received_mb_per_s", "turned_away", "in_work_min", "quiet_puts_per_s", "puts_per_s", "puts_ratio",
			"group_peak_mb"},
		run: bulk,
	}
}

// bulkRead is the ranges under way.
type bulkRead struct {
	addr    string
	request []byte
	least   int64 // bytes of an answer

	received, turnedAway, succeeded atomic.Int64
	last                            []atomic.Int64 // per range, when bytes came last, in nanoseconds since 1970; 0 when it has ended or not begun
}

func bulk(ctx context.Context, t *task) (err error) {
	cfg := setup{stock: bulkStock, inPlace: true}
	if t.side.name == ours {
		cfg.args = []string{fmt.Sprintf("--memory-limit=%d", int64(bulkLimit))}
	}
	group, err := newMemoryGroup(fmt.Sprintf("holdfast-bench-%d", time.Now().UnixNano()), bulkLimit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, group.remove()) }() // when the member has ended
	cfg.within = func(int) []string { return group.within() }
	m, err := t.start(ctx, cfg)
	if err != nil {
		return err
	}
	defer m.kill()
	c, err := m.dial(bulkPutters)
	if err != nil {
		return err
	}
	defer c.close()
	t.record.Params = map[string]any{"ranges": bulkRanges, "range_bytes": t.n(bulkKeys, keysShort/10) * bulkBytes, "limit_bytes": bulkLimit, "putters": bulkPutters}
	putting, stop := context.WithCancel(ctx)
	puts := putOn(putting, c)
	defer puts.wait()
	defer stop()
	if err := pause(ctx, t.span(bulkQuiet, measureShort)); err != nil {
		return err
	}
	v := t.record.Values
	v["quiet_puts_per_s"] = float64(puts.done.Load()) / t.span(bulkQuiet, measureShort).Seconds()
	before, began := puts.done.Load(), time.Now()
	r := &bulkRead{addr: m.servers[0].Client, least: int64(t.n(bulkKeys, keysShort/10) * bulkBytes), last: make([]atomic.Int64, bulkRanges)}
	if r.request, err = proto.Marshal(&pb.RangeRequest{Key: []byte("/list/"), RangeEnd: []byte("/list0")}); err != nil {
		return err
	}
	inWork, err := r.run(ctx, m.servers[0].Ended())
	took := time.Since(began).Seconds()
	v["all_s"], v["in_work_min"] = took, slices.Min(append(inWork, bulkRanges))
	t.record.Series["in_work"] = inWork
	v["puts_per_s"] = float64(puts.done.Load()-before) / took
	v["puts_ratio"] = v["puts_per_s"] / max(1, v["quiet_puts_per_s"])
	v["succeeded"], v["turned_away"] = float64(r.succeeded.Load()), float64(r.turnedAway.Load())
	v["received_mb_per_s"] = float64(r.received.Load()) / mb / took
	v["killed"] = 0
	select {
	case <-m.servers[0].Ended():
		v["killed"] = 1
	default:
	}
	peak, failed := group.peakMB()
	v["group_peak_mb"] = peak
	return errors.Join(err, failed)
}

// run makes all ranges, each until it succeeds, and returns when they have, the member has ended, or patience has. It returns, too, what look saw.
func (r *bulkRead) run(ctx context.Context, ended <-chan struct{}) (inWork []float64, err error) {
	ctx, stop := context.WithTimeout(ctx, bulkPatience)
	defer stop()
	go func() { // ends with ctx
		select {
		case <-ended:
			stop()
		case <-ctx.Done():
		}
	}()
	var wg sync.WaitGroup
	errs := make([]error, bulkRanges)
	for i := range bulkRanges {
		wg.Go(func() { errs[i] = r.one(ctx, i) })
	}
	all := make(chan struct{})
	go func() { // ends when all ranges have
		wg.Wait()
		close(all)
	}()
	inWork = r.look(all)
	return inWork, errors.Join(errs...)
}

// one makes a range until it succeeds. An end of ctx is no error: the counts say what did not succeed.
func (r *bulkRead) one(ctx context.Context, i int) error {
	for {
		var bytes int64
		err := discard(ctx, r.addr, pb.KV_Range_FullMethodName, r.request, func(n int) {
			bytes += int64(n)
			r.received.Add(int64(n))
			r.last[i].Store(time.Now().UnixNano())
		})
		r.last[i].Store(0)
		switch code := status.Code(err); {
		case ctx.Err() != nil:
			return nil
		case err == nil && bytes < r.least:
			return fmt.Errorf("an answer of %d bytes, at least %d were to come", bytes, r.least)
		case err == nil:
			r.succeeded.Add(1)
			return nil
		case code == codes.ResourceExhausted, code == codes.Unavailable, code == codes.Unknown: // unknown: the connection failed
			r.turnedAway.Add(1)
		default:
			return err
		}
		if pause(ctx, bulkRetry) != nil {
			return nil
		}
	}
}

// look returns how many ranges were in work at each look, from bulkIdle on, while more than four were left.
func (r *bulkRead) look(all <-chan struct{}) (inWork []float64) {
	began := time.Now()
	for {
		select {
		case <-all:
			return inWork
		case <-time.After(bulkLook):
		}
		if bulkRanges-r.succeeded.Load() <= 4 || time.Since(began) < bulkIdle {
			continue
		}
		n, since := 0, time.Now().Add(-bulkIdle).UnixNano()
		for i := range r.last {
			if r.last[i].Load() > since {
				n++
			}
		}
		inWork = append(inWork, float64(n))
	}
}

// putter puts without end, and does not mind when it cannot.
type putter struct {
	done atomic.Int64
	wg   sync.WaitGroup
}

// putOn lets each caller of c put until ctx ends.
func putOn(ctx context.Context, c *clients) *putter {
	p := &putter{}
	for i, kv := range c.kvs {
		p.wg.Go(func() {
			for n := i; ctx.Err() == nil; n += len(c.kvs) {
				if _, err := kv.Put(ctx, &pb.PutRequest{Key: key(n % keysFew), Value: value(n, valueBytes)}); err == nil {
					p.done.Add(1)
				} else if pause(ctx, bulkRetry) != nil {
					return
				}
			}
		})
	}
	return p
}

func (p *putter) wait() { p.wg.Wait() }

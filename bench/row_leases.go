package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"
)

const (
	leasesMany  = 100_000 // what a cluster of so many clients would keep
	leaseTTL    = 20 * time.Second
	leaseRate   = 5000             // grants per second, each with a put of one key
	leaseKept   = 40 * time.Second // a lease is renewed every third of its life, as clients do, for so long
	leaseGroups = 400              // clients, with a stream of renewals each: a grant and a put may take 80 ms at full rate
	leasePuts   = 2000             // puts per second by others, from the first grant until the last key is gone
	// leaseGrace is how long after its time a key is waited for.
	leaseGrace = time.Minute
)

// leases grants leases, keeps them alive, leaves them, and watches when their keys go.
func leases(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{})
	if err != nil {
		return err
	}
	defer m.kill()
	c, err := m.dial(leaseGroups)
	if err != nil {
		return err
	}
	defer c.close()
	l := &lessor{
		task: t, clients: c, began: time.Now(), of: make([]leased, t.n(leasesMany, 400)),
		ttl: t.span(leaseTTL, 2*time.Second), kept: t.span(leaseKept, time.Second),
	}
	t.record.Params = map[string]any{
		"leases": len(l.of), "ttl_s": l.ttl.Seconds(), "grants_per_s": leaseRate, "kept_s": l.kept.Seconds(), "puts_per_s": leasePuts,
		"clients": leaseGroups, "connections": len(c.conns),
	}
	before, err := readMeter(m.pids()...)
	if err != nil {
		return err
	}
	if err := l.run(ctx); err != nil {
		return err
	}
	cost, err := before.since()
	cost.perTime(t.record.Values)
	return errors.Join(err, t.held(m))
}

// lessor is everything around some leases.
type lessor struct {
	*task
	*clients
	began     time.Time
	of        []leased
	ttl, kept time.Duration

	behind  atomic.Int64 // the most that a grant began after its time, in nanoseconds
	renewed atomic.Int64
	gone    atomic.Int64
}

// leased are the moments of a lease, in nanoseconds since the beginning: its last renewal was asked for, and answered, and the news
// that its key is gone came; 0 is not yet. Between asked and answered its life began anew.
type leased struct{ asked, answered, gone atomic.Int64 }

func (l *lessor) now() int64 { return int64(time.Since(l.began)) }

func (l *lessor) run(ctx context.Context) error {
	watch, err := l.watch(ctx)
	if err != nil {
		return err
	}
	putting, stopPuts := context.WithCancel(ctx)
	defer stopPuts()
	var puts []timed
	var putErr error
	others := make(chan struct{})
	go func() { // ends with putting
		defer close(others)
		puts, putErr = paced{leasePuts, func(ctx context.Context, i int) error {
			_, err := l.kvs[i%len(l.kvs)].Put(ctx, &pb.PutRequest{Key: key(i % keysFew), Value: value(i, valueBytes)})
			return err
		}}.run(putting)
	}()
	g, live := errgroup.WithContext(ctx)
	for i := range leaseGroups {
		g.Go(func() error { return l.keep(live, i) })
	}
	err = g.Wait()
	if err == nil {
		err = l.awaitGone(ctx, watch)
	}
	stopPuts()
	<-others
	if err := errors.Join(err, putErr); err != nil {
		return err
	}
	l.judge(tookIn(puts, 0, time.Since(l.began)))
	return nil
}

func leaseKey(i int) []byte { return fmt.Appendf(nil, "lease/%06d", i) }

// watch notes when each key goes, until ctx ends. What ends it sooner is in the channel.
func (l *lessor) watch(ctx context.Context) (<-chan error, error) {
	stream, err := pb.NewWatchClient(l.conns[0]).Watch(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte("lease/"), RangeEnd: []byte("lease0"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT},
	}}})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	ended := make(chan error, 1)
	go func() { // ends with ctx
		for {
			a, err := stream.Recv()
			if err != nil {
				ended <- fmt.Errorf("watch: %w", err)
				return
			}
			now := l.now()
			for _, e := range a.Events {
				i, err := strconv.Atoi(string(bytes.TrimPrefix(e.Kv.Key, []byte("lease/"))))
				if err != nil || !l.of[i].gone.CompareAndSwap(0, now) {
					ended <- fmt.Errorf("watch: %q went: %w", e.Kv.Key, err)
					return
				}
				l.gone.Add(1)
			}
		}
	}()
	return ended, nil
}

// keep grants the leases of one client, each in its turn, and keeps each alive for its time.
func (l *lessor) keep(ctx context.Context, group int) error {
	stream, err := pb.NewLeaseClient(l.conns[group%len(l.conns)]).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	heard := make(chan error, 1)
	go func() { heard <- l.hear(stream) }() // ends with the stream
	type renewal struct {
		at, until time.Duration
		lease     int
	}
	var renewals []renewal // in the order of their time
	next := group          // to be granted
	for next < len(l.of) || len(renewals) > 0 {
		granted := time.Duration(next) * time.Second / leaseRate
		// A renewal that is due comes first, however late the grants are.
		if len(renewals) > 0 && (next >= len(l.of) || renewals[0].at < max(granted, time.Duration(l.now()))) {
			r := renewals[0]
			renewals = renewals[1:]
			if err := pause(ctx, time.Until(l.began.Add(r.at))); err != nil {
				return err
			}
			now := l.now()
			if time.Duration(now) > r.until {
				continue // left
			}
			l.of[r.lease].asked.Store(now)
			if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(r.lease) + 1}); err != nil {
				return fmt.Errorf("keep alive: %w", err)
			}
			renewals = append(renewals, renewal{time.Duration(now) + l.ttl/3, r.until, r.lease})
			continue
		}
		if err := pause(ctx, time.Until(l.began.Add(granted))); err != nil {
			return err
		}
		if err := l.grant(ctx, group, next); err != nil {
			return err
		}
		asked := time.Duration(l.of[next].asked.Load())
		for late := int64(asked - granted); ; {
			if most := l.behind.Load(); late <= most || l.behind.CompareAndSwap(most, late) {
				break
			}
		}
		renewals = append(renewals, renewal{asked + l.ttl/3, asked + l.kept, next})
		next += leaseGroups
	}
	return errors.Join(stream.CloseSend(), <-heard)
}

// grant makes a lease and the key that hangs on it.
func (l *lessor) grant(ctx context.Context, group, i int) error {
	l.of[i].asked.Store(l.now())
	id := int64(i) + 1
	_, err := untilTaken(ctx, func(ctx context.Context) error {
		_, err := pb.NewLeaseClient(l.conns[group%len(l.conns)]).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: int64(l.ttl / time.Second)})
		return err
	})
	l.of[i].answered.Store(l.now())
	if err == nil {
		_, err = untilTaken(ctx, func(ctx context.Context) error {
			_, err := l.kvs[group].Put(ctx, &pb.PutRequest{Key: leaseKey(i), Value: []byte("x"), Lease: id})
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("grant %d: %w", i, err)
	}
	return nil
}

// hear notes the answers to renewals.
func (l *lessor) hear(stream pb.Lease_LeaseKeepAliveClient) error {
	for {
		a, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("keep alive: %w", err)
		case a.TTL <= 0:
			return fmt.Errorf("lease %d is gone although it is kept alive", a.ID)
		}
		l.of[a.ID-1].answered.Store(l.now())
		l.renewed.Add(1)
	}
}

// awaitGone waits until the watch has told of every key.
func (l *lessor) awaitGone(ctx context.Context, watch <-chan error) error {
	until := time.Now().Add(l.ttl + leaseGrace)
	for {
		gone := int(l.gone.Load())
		l.status("%d of %d gone", gone, len(l.of))
		if gone == len(l.of) {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("%d of %d keys are there %v after their time", len(l.of)-gone, len(l.of), leaseGrace)
		}
		select {
		case err := <-watch:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// judge records how late the keys went after the answer to the last renewal had said they would, and how many went before the request for it
// allowed.
func (l *lessor) judge(puts []time.Duration) {
	var late []time.Duration
	early, last := 0, int64(0)
	for i := range l.of {
		gone := l.of[i].gone.Load()
		late = append(late, time.Duration(gone-l.of[i].answered.Load())-l.ttl)
		if time.Duration(gone-l.of[i].asked.Load()) < l.ttl {
			early++
		}
		last = max(last, gone)
	}
	slices.Sort(late)
	v := l.record.Values
	v["late_p50_ms"], v["late_p99_ms"], v["late_max_ms"] = ms(quantile(late, 0.5)), ms(quantile(late, 0.99)), ms(quantile(late, 1))
	v["early"] = float64(early)
	v["grant_behind_max_ms"] = ms(time.Duration(l.behind.Load()))
	v["renewals_per_s"] = float64(l.renewed.Load()) / time.Duration(last).Seconds()
	v["puts_per_s"] = float64(len(puts)) / time.Since(l.began).Seconds()
	v["put_p50_us"], v["put_p99_us"], v["put_max_us"] = us(quantile(puts, 0.5)), us(quantile(puts, 0.99)), us(quantile(puts, 1))
}

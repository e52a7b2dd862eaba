package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	fanWatchers = 1000
	fanShare    = 10 // watchers on one stream, as those of one client of etcd's share one
	fanBytes    = 1 << 10
	fanAhead    = 8 // events that may be under way to some watcher: the writer waits for the slowest

	crowdStreams, crowdPerStream = 100, 100 // each stream has a connection; its watchers watch a key each
	crowdStalled                 = 1        // streams, and so 100 watchers, that read nothing
	crowdRate                    = 400      // puts a second; each is an event on every stream
	crowdFor                     = 10 * time.Second
)

var showWatch = []string{"events_per_s", "server_us_per_event", "client_us_per_event", "p50_us", "p99_us", "max_us", "anonymous_mb", "resident_mb",
	"others_cores"}

func watchRows() []row {
	asks := fmt.Sprintf("what does an event of %d B cost for each of %d watchers", fanBytes, fanWatchers)
	of := func(name, asks string, f fan) row { return row{name: name, asks: asks, show: showWatch, run: f.run} }
	all := []row{
		of("watch-1000", fmt.Sprintf("%s, %d on a stream?", asks, fanShare), fan{share: fanShare}),
		of("watch-tls-1000", "and with TLS?", fan{share: fanShare, tls: true}),
		of("watch-streams-1000", asks+", each with a stream?", fan{share: 1}),
	}
	return append(all, row{
		name: "watch-10000",
		asks: fmt.Sprintf("do %d watchers on %d streams hear of everything in time while %d of them read nothing?",
			crowdStreams*crowdPerStream, crowdStreams, crowdStalled*crowdPerStream),
		aim:   "the stalled ones cost bounded memory",
		heavy: true,
		show:  append([]string{"grown_mb"}, showWatch...),
		run:   crowd,
	})
}

// fan is many watchers of one key.
type fan struct {
	share int // watchers on each stream
	tls   bool
}

// run puts the key again and again, each time when the watchers have heard of most of what was before.
func (f fan) run(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{tls: f.tls})
	if err != nil {
		return err
	}
	defer m.kill()
	n := t.n(fanWatchers, 2*fanShare)
	c, err := m.dial(n / f.share)
	if err != nil {
		return err
	}
	defer c.close()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	requests := slices.Repeat([]*pb.WatchCreateRequest{{Key: key(0)}}, f.share)
	var streams []watchStream
	for i := range n / f.share {
		s, err := openStream(watching, c.conns[i%len(c.conns)], requests)
		if err != nil {
			return err
		}
		streams = append(streams, s)
	}
	t.record.Params = map[string]any{"watchers": n, "streams": len(streams), "value_bytes": fanBytes, "connections": len(c.conns), "tls": f.tls,
		"measured_s": t.span(measureFor, measureShort).Seconds()}
	a := listen(stop, streams)
	sent := int64(0)
	writer := start(ctx, []caller{func(ctx context.Context) error {
		if _, err := c.kvs[0].Put(ctx, &pb.PutRequest{Key: key(0), Value: timeStamped(int(sent), fanBytes)}); err != nil {
			return err
		}
		sent++
		return a.await(ctx, (sent-fanAhead)*int64(n))
	}})
	heard, cost, failed := t.heardInWindow(ctx, m, writer, a)
	_, wrote := writer.end()
	if wrote == nil {
		wrote = a.await(ctx, sent*int64(n))
	}
	return t.recordEvents(m, a, heard, cost, errors.Join(failed, wrote))
}

// heardInWindow counts the events of the time that counts, and what it cost.
func (t *task) heardInWindow(ctx context.Context, m *members, l *loop, a *audience) (int64, spent, error) {
	if err := pause(ctx, t.span(warmFor, warmShort)); err != nil {
		return 0, spent{}, err
	}
	a.phase.Store(measuring)
	before := a.heard.Load()
	cost, err := t.window(ctx, m, l)
	a.phase.Store(ending)
	return a.heard.Load() - before, cost, err
}

// recordEvents ends the audience and records what heard events cost.
func (t *task) recordEvents(m *members, a *audience, heard int64, cost spent, err error) error {
	if held := t.held(m); err == nil {
		err = held
	}
	took, ended := a.end()
	if err := errors.Join(err, ended); err != nil {
		return err
	}
	if heard == 0 {
		return errNothing
	}
	v := t.record.Values
	cost.perTime(v)
	v["events_per_s"] = float64(heard) / cost.wall.Seconds()
	v["server_us_per_event"] = us(cost.server()) / float64(heard)
	v["client_us_per_event"] = us(cost.client) / float64(heard)
	latencies(took, v)
	return nil
}

// crowd lets many watchers hear of a steady number of puts while some do not read.
func crowd(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{})
	if err != nil {
		return err
	}
	defer m.kill()
	c, err := m.dial(t.n(crowdStreams, 4))
	if err != nil {
		return err
	}
	defer c.close()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var requests []*pb.WatchCreateRequest
	for i := range crowdPerStream {
		requests = append(requests, &pb.WatchCreateRequest{Key: key(i)})
	}
	var streams []watchStream
	for _, conn := range c.conns {
		s, err := openStream(watching, conn, requests)
		if err != nil {
			return err
		}
		streams = append(streams, s)
	}
	length := t.span(crowdFor, measureShort)
	t.record.Params = map[string]any{"watchers": len(streams) * crowdPerStream, "streams": len(streams), "stalled": crowdStalled * crowdPerStream,
		"puts_per_s": crowdRate, "value_bytes": fanBytes, "measured_s": length.Seconds()}
	writing, err := m.dial(1)
	if err != nil {
		return err
	}
	defer writing.close()
	return t.hearCrowd(ctx, m, writing.kvs[0], listen(stop, streams[crowdStalled:]), len(streams)-crowdStalled, length)
}

// hearCrowd puts at crowdRate and expects every event on each of the streams that are read.
func (t *task) hearCrowd(ctx context.Context, m *members, kv pb.KVClient, a *audience, streams int, length time.Duration) error {
	first, err := memoryOf(m.servers[0].Pid())
	if err != nil {
		return err
	}
	before, err := readMeter(m.pids()...)
	if err != nil {
		return err
	}
	a.phase.Store(measuring)
	putting, end := context.WithTimeout(ctx, length)
	defer end()
	puts, failed := paced{crowdRate, func(ctx context.Context, i int) error {
		_, err := kv.Put(ctx, &pb.PutRequest{Key: key(i % crowdPerStream), Value: timeStamped(i, fanBytes)})
		return err
	}}.run(putting)
	if failed == nil {
		failed = a.await(ctx, int64(len(puts)*streams))
	}
	cost, err := before.since()
	last, lost := memoryOf(m.servers[0].Pid())
	t.record.Values["grown_mb"] = last.anonymous - first.anonymous
	return t.recordEvents(m, a, a.heard.Load(), cost, errors.Join(failed, err, lost))
}

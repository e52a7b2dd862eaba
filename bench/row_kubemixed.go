package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"
)

// kind is one kind of object in a cluster of 5,000 nodes: how many there are, how large, and how many a second are updated.
type kind struct {
	prefix string
	n      int
	bytes  int
	rate   float64
}

// A node renews its lease every 10 s and tells its state every 5 min; 30 pods a node would be 150,000, of which a fifth is enough to
// page through; some of them change all the time.
var kubeKinds = []kind{
	{"/registry/leases/", 5_000, 400, 500},
	{"/registry/minions/", 5_000, 10 << 10, 17},
	{"/registry/pods/", 30_000, 2 << 10, 150},
}

const (
	kubeEvents     = 100 // a second, each a new object that lives as long as its lease
	kubeEventBytes = 1 << 10
	kubeLeases     = 2   // leases granted a second, each shared by the events of its time
	kubePages      = 10  // pages of pageKeys pods a second
	kubeGets       = 200 // a second
	kubeServers    = 3   // API servers, each of which watches each kind, and has connections of its own
	kubeFor        = 15 * time.Second
)

var kubeStock = &stock{name: "kube", fill: func(ctx context.Context, t *task, m *members) error {
	for _, k := range kubeKinds {
		if err := fill(ctx, m, writes{n: t.n(k.n, objectsShort), turn: func(i int) *pb.PutRequest {
			return &pb.PutRequest{Key: k.key(i), Value: value(i, k.bytes)}
		}}); err != nil {
			return err
		}
	}
	return nil
}}

func (k kind) key(i int) []byte { return fmt.Appendf(nil, "%s%06d", k.prefix, i) }

// end is what follows all keys of the kind.
func (k kind) end() []byte { return append([]byte(k.prefix[:len(k.prefix)-1]), '/'+1) }

// cluster is everything around the members while the row kube-mixed runs.
type cluster struct {
	*task
	*clients
	objects map[string][]object // by the prefix of their kind
	lease   atomic.Int64        // the newest
}

// kubeMixed does everything at once, at its rate.
func kubeMixed(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{stock: kubeStock})
	if err != nil {
		return err
	}
	defer m.kill()
	c, err := m.dial(kubeServers)
	if err != nil {
		return err
	}
	defer c.close()
	k := &cluster{task: t, clients: c, objects: map[string][]object{}}
	if err := k.learn(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var streams []watchStream
	for _, conn := range c.conns {
		for _, kind := range kubeKinds {
			s, err := openStream(watching, conn, []*pb.WatchCreateRequest{{Key: []byte(kind.prefix), RangeEnd: kind.end(), ProgressNotify: true}})
			if err != nil {
				return err
			}
			streams = append(streams, s)
		}
	}
	a := listen(stop, streams)
	length := t.span(kubeFor, measureShort)
	t.record.Params = map[string]any{"kinds": fmt.Sprint(kubeKinds), "events_per_s": kubeEvents, "leases_per_s": kubeLeases, "pages_per_s": kubePages,
		"gets_per_s": kubeGets, "watchers": len(streams), "measured_s": length.Seconds()}
	before, err := readMeter(m.pids()...)
	if err != nil {
		return err
	}
	a.phase.Store(measuring)
	failed := k.live(ctx, length)
	cost, err := before.since()
	v := t.record.Values
	heard := a.heard.Load()
	watched := newRecord()
	one := &task{suite: t.suite, side: t.side, record: watched}
	err = one.recordEvents(m, a, heard, cost, errors.Join(failed, err))
	for _, name := range []string{"p50_us", "p99_us", "max_us"} {
		v["watch_"+name] = watched.Values[name]
	}
	v["events_per_s"], v["client_cores"] = watched.Values["events_per_s"], cost.client.Seconds()/cost.wall.Seconds()
	cost.perTime(v)
	return errors.Join(err, t.held(m))
}

// learn reads the revisions of all objects.
func (k *cluster) learn(ctx context.Context) error {
	for _, kind := range kubeKinds {
		a, err := k.kvs[0].Range(ctx, &pb.RangeRequest{Key: []byte(kind.prefix), RangeEnd: kind.end(), KeysOnly: true})
		if err != nil {
			return err
		}
		for _, row := range a.Kvs {
			k.objects[kind.prefix] = append(k.objects[kind.prefix], object{row.Key, row.ModRevision})
		}
	}
	return nil
}

// live does everything for so long.
func (k *cluster) live(ctx context.Context, length time.Duration) error {
	if err := k.grant(ctx); err != nil {
		return err
	}
	ctx, end := context.WithTimeout(ctx, length)
	defer end()
	g, ctx := errgroup.WithContext(ctx)
	updates, pages, gets := make([][]timed, len(kubeKinds)), []timed(nil), []timed(nil)
	for i, kind := range kubeKinds {
		objects := k.objects[kind.prefix]
		k.pace(ctx, g, &updates[i], kind.rate, func(ctx context.Context, n int) error {
			return update(ctx, k.kv(n), &objects[n%len(objects)], timeStamped(n, kind.bytes))
		})
	}
	var others [2][]timed
	k.pace(ctx, g, &others[0], kubeEvents, func(ctx context.Context, n int) error {
		name := fmt.Appendf(nil, "/registry/events/%06d", n)
		_, err := k.kv(n).Put(ctx, &pb.PutRequest{Key: name, Value: value(n, kubeEventBytes), Lease: k.lease.Load()})
		return err
	})
	k.pace(ctx, g, &others[1], kubeLeases, func(ctx context.Context, _ int) error { return k.grant(ctx) })
	pods := k.objects[kubeKinds[len(kubeKinds)-1].prefix]
	k.pace(ctx, g, &pages, kubePages, func(ctx context.Context, n int) error {
		from := pods[n*pageKeys%len(pods)].key
		_, err := rangeRaw(ctx, k.conns[n%len(k.conns)], &pb.RangeRequest{Key: from, RangeEnd: kubeKinds[len(kubeKinds)-1].end(), Limit: pageKeys})
		return err
	})
	k.pace(ctx, g, &gets, kubeGets, func(ctx context.Context, n int) error {
		_, err := k.kv(n).Range(ctx, &pb.RangeRequest{Key: pods[n*keyStride%len(pods)].key})
		return err
	})
	err := g.Wait()
	v := k.record.Values
	var all []timed
	for _, u := range updates {
		all = append(all, u...)
	}
	for name, calls := range map[string][]timed{"update_": all, "page_": pages, "get_": gets} {
		took := tookIn(calls, 0, length)
		v[name+"p50_us"], v[name+"p99_us"], v[name+"max_us"] = us(quantile(took, 0.5)), us(quantile(took, 0.99)), us(quantile(took, 1))
	}
	return err
}

func (k *cluster) kv(n int) pb.KVClient { return k.kvs[n%len(k.kvs)] }

// pace adds calls at a rate to g, until ctx ends.
func (k *cluster) pace(ctx context.Context, g *errgroup.Group, into *[]timed, perSecond float64, call func(ctx context.Context, n int) error) {
	g.Go(func() error {
		calls, err := paced{perSecond, call}.run(ctx)
		*into = calls
		return err
	})
}

func (k *cluster) grant(ctx context.Context) error {
	a, err := pb.NewLeaseClient(k.conns[0]).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 3600})
	if err == nil {
		k.lease.Store(a.ID)
	}
	return err
}

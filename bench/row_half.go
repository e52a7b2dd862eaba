package bench

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// halfRateUnknown is asked of both sides when etcd's most is not known, because its row was not measured: about half of what it does on two cores.
const halfRateUnknown = 8_000

const (
	halfFor   = 8 * time.Second
	halfConns = 100

	grantRate   = 1_000 // new leases a second
	grantTTL    = 3600  // seconds: none of them ends meanwhile
	pacedWarmUp = time.Second
)

// halfRate is half of the puts a second that etcd did in the row put-1000, in the middle of the rounds.
func (s *suite) halfRate() float64 {
	if len(s.sides) > 1 {
		if found := s.results.valuesOf("put-1000", "ops_per_s", s.sides[1]); len(found) > 0 {
			return spreadOf(found).median / 2
		}
	}
	return halfRateUnknown
}

func pacedRows() []row {
	show := []string{"ops_per_s", "server_us_per_op", "p50_us", "p99_us", "max_us", "server_cores", "anonymous_mb", "resident_mb", "disk_mb", "others_cores"}
	return []row{
		{
			name: "put-half",
			asks: fmt.Sprintf("how long does a put of %d B take at half of the rate that is etcd's most?", valueBytes),
			show: show,
			run: func(ctx context.Context, t *task) error {
				return pacedLoad{setup: setup{stock: stockKeys(keysBase)}, rate: t.halfRate(), call: func(t *task, c *clients) func(context.Context, int) error {
					return putScattered(c, t.n(keysBase, keysShort))
				}}.run(ctx, t)
			},
		},
		{
			name: "lease-grant-1000",
			asks: fmt.Sprintf("what do %d new leases a second cost, and how long does each take?", grantRate),
			show: show,
			run: pacedLoad{rate: grantRate, call: func(_ *task, c *clients) func(context.Context, int) error {
				return func(ctx context.Context, i int) error {
					_, err := pb.NewLeaseClient(c.conns[i%len(c.conns)]).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: grantTTL})
					return err
				}
			}}.run,
		},
	}
}

// putScattered makes the ith put of an open loop: updates, in an order that has nothing to do with that of the keys.
func putScattered(c *clients, keys int) func(ctx context.Context, i int) error {
	return func(ctx context.Context, i int) error {
		_, err := c.kvs[i%len(c.kvs)].Put(ctx, &pb.PutRequest{Key: key(i * keyStride % keys), Value: value(i, valueBytes)})
		return err
	}
}

// pacedLoad is a row of calls at a rate.
type pacedLoad struct {
	setup
	rate float64
	call func(t *task, c *clients) func(ctx context.Context, i int) error
}

func (l pacedLoad) run(ctx context.Context, t *task) error {
	m, err := t.start(ctx, l.setup)
	if err != nil {
		return err
	}
	defer m.kill()
	if err := t.settle(ctx, m); err != nil {
		return err
	}
	c, err := m.dial(halfConns)
	if err != nil {
		return err
	}
	defer c.close()
	warm, length := t.span(pacedWarmUp, warmShort), t.span(halfFor, measureShort)
	t.record.Params["rate_per_s"], t.record.Params["connections"], t.record.Params["measured_s"] = l.rate, len(c.conns), length.Seconds()
	calling, end := context.WithTimeout(ctx, warm+length)
	defer end()
	metered := make(chan error, 1)
	var cost spent
	go func() { metered <- meterAfter(calling, warm, m, &cost) }() // ends with calling
	all, err := paced{l.rate, l.call(t, c)}.run(calling)
	if failed := <-metered; err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	took := tookIn(all, warm, warm+length)
	if len(took) == 0 {
		return errNothing
	}
	cost.perOp(len(took), t.record.Values)
	latencies(took, t.record.Values)
	return t.held(m)
}

// meterAfter reads the meter when it is warm, and again when ctx ends.
func meterAfter(ctx context.Context, warm time.Duration, m *members, into *spent) error {
	if err := pause(ctx, warm); err != nil {
		return err
	}
	before, err := readMeter(m.pids()...)
	if err != nil {
		return err
	}
	<-ctx.Done()
	*into, err = before.since()
	return err
}

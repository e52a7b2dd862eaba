package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// plaintext is how clients connect where nothing else is asked for.
var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// connectionsMax is how many connections clients share: as etcd's own benchmark is usually run.
const connectionsMax = 100

// clients are callers that wait for each answer before they ask again. They speak plain gRPC: what clientv3 adds would
// only take CPU from the server, which shares the machine.
type clients struct {
	conns []*grpc.ClientConn
	kvs   []pb.KVClient // one per caller; several share a connection
}

// dialWith makes n callers on at most connectionsMax connections, which go to addrs in turn.
func dialWith(creds credentials.TransportCredentials, addrs []string, n int) (*clients, error) {
	c := &clients{}
	for i := range min(n, connectionsMax) {
		conn, err := grpc.NewClient(addrs[i%len(addrs)], grpc.WithTransportCredentials(creds))
		if err != nil {
			c.close()
			return nil, fmt.Errorf("connect to %s: %w", addrs[i%len(addrs)], err)
		}
		c.conns = append(c.conns, conn)
	}
	for i := range n {
		c.kvs = append(c.kvs, pb.NewKVClient(c.conns[i%len(c.conns)]))
	}
	return c, nil
}

func (c *clients) close() {
	for _, conn := range c.conns {
		_ = conn.Close() // the server is about to be stopped anyway
	}
}

// caller makes one call and waits for the answer. One goroutine calls it in a loop, until it returns errDone.
type caller func(ctx context.Context) error

var errDone = errors.New("nothing left to do")

// phases of a measurement; calls that end in measuring count.
const (
	warming int32 = iota
	measuring
	ending
)

// loop lets callers run until one fails, all are done, or end is called.
type loop struct {
	phase atomic.Int32
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu    sync.Mutex      // guards the fields below
	took  []time.Duration // of the calls that count
	first error
}

// start sets the callers going.
func start(ctx context.Context, callers []caller) *loop {
	ctx, stop := context.WithCancel(ctx)
	l := &loop{stop: stop}
	for _, c := range callers {
		l.wg.Go(func() { l.drive(ctx, c) })
	}
	return l
}

// drive calls until told to end. The call under way is finished, so that no canceled call burdens the server.
func (l *loop) drive(ctx context.Context, call caller) {
	var took []time.Duration
	var err error
	for err == nil && ctx.Err() == nil && l.phase.Load() != ending {
		began := time.Now()
		err = call(ctx)
		if err == nil && l.phase.Load() == measuring {
			took = append(took, time.Since(began))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took...)
	if err != nil && !errors.Is(err, errDone) && l.first == nil {
		l.first = err
		l.stop()
	}
}

// end lets every caller finish its call and returns how long those took that counted, shortest first.
func (l *loop) end() ([]time.Duration, error) {
	l.phase.Store(ending)
	return l.wait()
}

// wait returns when all callers are done.
func (l *loop) wait() ([]time.Duration, error) {
	l.wg.Wait()
	l.stop()
	slices.Sort(l.took)
	return l.took, l.first
}

// quantile of sorted durations: the smallest that at least the share q does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(float64(len(sorted))*q+0.999999)-1)]
}

// latencies puts the usual quantiles into v.
func latencies(sorted []time.Duration, v values) {
	v["p50_us"] = us(quantile(sorted, 0.50))
	v["p99_us"] = us(quantile(sorted, 0.99))
	v["max_us"] = us(quantile(sorted, 1))
}

// pause waits, or returns early with the reason.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noise is where values come from: bytes that do not compress, as neither certificates nor encrypted secrets do.
var noise = sync.OnceValue(func() []byte {
	b := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
})

// value is the nth value of size bytes. Neighbours share nothing.
func value(n, size int) []byte {
	all := noise()
	at := n * (size + 1) % (len(all) - size)
	return all[at : at+size]
}

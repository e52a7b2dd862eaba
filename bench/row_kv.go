package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/test/run"
)

// What the rows of single keys have in common.
const (
	valueBytes = 256
	keysPut    = 100_000 // puts go to random keys of so many: new ones first, then more and more updates
	keysGet    = 10_000  // written before gets are measured
	warmFor    = time.Second
	measureFor = 4 * time.Second
)

// kvLoad is a number of callers that do the same in a closed loop.
type kvLoad struct {
	name    string
	op      func(kv pb.KVClient, r *rand.Rand) caller
	callers int
	aim     string
	tls     bool // with certificates that the server makes
}

func (l kvLoad) question() string {
	how := ""
	if l.tls {
		how = " with TLS"
	}
	return fmt.Sprintf("what does a %s of %d B cost%s, %d at a time, over at most %d connections?",
		strings.TrimSuffix(l.name, "-tls"), valueBytes, how, l.callers, connectionsMax)
}

func (l kvLoad) run(ctx context.Context, t *task) error {
	cfg, creds := run.Config{}, insecure.NewCredentials()
	if l.tls {
		cfg.TLS, cfg.Args = &tls.Config{InsecureSkipVerify: true}, []string{"--auto-tls"}
		creds = credentials.NewTLS(cfg.TLS)
	}
	server, err := t.startServerWith(ctx, cfg)
	if err != nil {
		return err
	}
	defer server.Kill()
	c, err := dialWith(creds, server.Client, l.callers)
	if err != nil {
		return err
	}
	defer c.close()
	if l.name == "get" {
		t.status("writing %d keys", keysGet)
		if err := fill(ctx, server.Client, keysGet); err != nil {
			return err
		}
	}
	callers := make([]caller, l.callers)
	for i, kv := range c.kvs {
		callers[i] = l.op(kv, rand.New(rand.NewPCG(uint64(i), uint64(t.record.Round))))
	}
	t.record.Params = map[string]any{
		"callers": l.callers, "connections": len(c.conns), "value_bytes": valueBytes, "measured_s": measureFor.Seconds(),
	}
	return t.measureCalls(ctx, server.Pid(), callers)
}

// measureCalls lets callers warm up, measures for measureFor, and records what calls and server took.
func (t *task) measureCalls(ctx context.Context, pid int, callers []caller) error {
	l := start(ctx, callers)
	cost, failed := t.window(ctx, pid, l)
	took, err := l.end()
	if err == nil { // a caller's error explains what else went wrong
		err = failed
	}
	if err != nil {
		return err
	}
	if len(took) == 0 {
		return fmt.Errorf("no call ended within %v", measureFor)
	}
	cost.perOp(len(took), t.record.Values)
	latencies(took, t.record.Values)
	m, err := memoryOf(pid)
	t.record.Values["anonymous_mb"], t.record.Values["resident_mb"] = m.anonymous, m.resident
	return err
}

// window is the time that counts: what it cost, from the end of the warming up on.
func (t *task) window(ctx context.Context, pid int, l *loop) (spent, error) {
	t.status("warming up")
	if err := pause(ctx, warmFor); err != nil {
		return spent{}, err
	}
	t.status("measuring")
	before, err := readMeter(pid)
	if err != nil {
		return spent{}, err
	}
	l.phase.Store(measuring)
	if err := pause(ctx, measureFor); err != nil {
		return spent{}, err
	}
	return before.since()
}

// put writes random values to random keys.
func put(kv pb.KVClient, r *rand.Rand) caller {
	q := &pb.PutRequest{}
	return func(ctx context.Context) error {
		q.Key, q.Value = key(r.IntN(keysPut)), value(r.IntN(1<<20), valueBytes)
		_, err := kv.Put(ctx, q)
		return err
	}
}

// get reads random keys, linearizably.
func get(kv pb.KVClient, r *rand.Rand) caller {
	q := &pb.RangeRequest{}
	return func(ctx context.Context) error {
		q.Key = key(r.IntN(keysGet))
		a, err := kv.Range(ctx, q)
		if err == nil && len(a.Kvs) != 1 {
			err = fmt.Errorf("get %s: %d keys", q.Key, len(a.Kvs))
		}
		return err
	}
}

// key is the nth key: as long as those of small objects in Kubernetes are at least.
func key(n int) []byte { return fmt.Appendf(nil, "/registry/bench/%08d", n) }

// fillCallers is how many write at once where only the result counts.
const fillCallers = 200

// fill writes n keys, each once.
func fill(ctx context.Context, addr string, n int) error {
	c, err := dial(addr, fillCallers)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = start(ctx, eachOnce(c, n, nil)).wait()
	return err
}

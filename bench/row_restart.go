package bench

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// staleKeys are overwritten before a server is killed, so that a log has to be replayed: 14 MB of payload, about half
	// of what may be waiting.
	staleKeys = 50_000

	// settleFor is how long after its first answer a member's memory is looked at again.
	settleFor = 5 * time.Second
)

// restart finds out how soon a server answers again after kill -9 and after a stop. The clock runs from the start of the
// process to the answer of a linearizable read; test/run asks every 20 ms.
func restart(ctx context.Context, t *task) error {
	m, err := t.start(ctx, setup{stock: stockKeys(keysBase)})
	if err != nil {
		return err
	}
	defer m.kill()
	keys := t.n(keysBase, keysShort)
	t.record.Params["keys"], t.record.Params["value_bytes"] = keys, valueBytes
	t.record.Params["settle_s"] = t.span(settleFor, warmShort).Seconds()
	t.status("overwriting %d keys", staleKeys)
	if err := fill(ctx, m, writes{n: t.n(staleKeys, keysShort), turn: func(i int) *pb.PutRequest {
		return &pb.PutRequest{Key: key(i * keyStride % keys), Value: value(i+t.record.Round, valueBytes)}
	}}); err != nil {
		return err
	}
	m.kill()
	if err := t.restartOnce(ctx, m, "killed"); err != nil {
		return err
	}
	t.status("stopping")
	began := time.Now()
	if err := m.stop(); err != nil {
		return err
	}
	t.record.Values["stop_s"] = time.Since(began).Seconds()
	if err := t.restartOnce(ctx, m, "stopped"); err != nil {
		return err
	}
	return t.held(m)
}

// restartOnce starts a member that has ended and records time and memory under names that begin with how it ended.
func (t *task) restartOnce(ctx context.Context, m *members, how string) error {
	t.status("starting what was %s", how)
	server := m.servers[0]
	began := time.Now()
	if err := server.Restart(ctx); err != nil {
		return err
	}
	t.record.Values[how+"_answer_s"] = time.Since(began).Seconds()
	held, err := memoryOf(server.Pid())
	if err != nil {
		return err
	}
	t.record.Values[how+"_anonymous_mb"], t.record.Values[how+"_peak_mb"] = held.anonymous, held.peak
	if err := pause(ctx, t.span(settleFor, warmShort)); err != nil {
		return err
	}
	if held, err = memoryOf(server.Pid()); err != nil {
		return err
	}
	t.record.Values[how+"_settled_mb"] = held.anonymous
	return nil
}

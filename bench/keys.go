package bench

import (
	"context"
	"fmt"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The base around which rows vary one thing at a time.
const (
	valueBytes  = 256
	baseCallers = 1000
	keysBase    = 1_000_000
	keysFew     = 10_000
	keysShort   = 2_000 // of every row's short form
)

// roomArg is for rows that write more than etcd takes by default, 2 GB; Holdfast gets the same.
const roomArg = "--quota-backend-bytes=34359738368"

// key is the nth key: as long as those of small objects in Kubernetes are at least.
func key(n int) []byte { return fmt.Appendf(nil, "/registry/bench/%08d", n) }

// stockKeys is n keys of valueBytes, each written once.
func stockKeys(n int) *stock {
	return &stock{name: fmt.Sprint("keys-", n), fill: func(ctx context.Context, t *task, m *members) error {
		return fill(ctx, m, writes{n: t.n(n, keysShort)})
	}}
}

// fillCallers is how many write at once where only the result counts.
const fillCallers = 200

// writes are n puts that several callers do together.
type writes struct {
	n     int
	turn  func(i int) *pb.PutRequest // the ith; nil: key i of n in scattered order, each once, valueBytes each
	batch int                        // how many go into one transaction; n is a multiple. 0: each goes by itself
	done  func(answered int64)       // hears of every answer, from any caller, how many puts are done; nil: nobody does
}

// fill does w and returns when all are answered.
func fill(ctx context.Context, m *members, w writes) error {
	c, err := m.dial(fillCallers)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = start(ctx, w.callers(c)).wait()
	return err
}

// keyStride has no factor in common with any number of keys that is written: the nth write goes to key n*keyStride mod keys, so
// that each is written once and neighbours in time are none in the order of keys, as names of pods are none.
const keyStride = 7919

// callers are one for each of c's, that share the writes.
func (w writes) callers(c *clients) []caller {
	var next, answered atomic.Int64
	turn := w.turn
	if turn == nil {
		turn = func(i int) *pb.PutRequest {
			return &pb.PutRequest{Key: key(i * keyStride % w.n), Value: value(i, valueBytes)}
		}
	}
	callers, batch := make([]caller, len(c.kvs)), int64(max(1, w.batch))
	for i, kv := range c.kvs {
		callers[i] = func(ctx context.Context) error {
			from := int(next.Add(batch) - batch)
			if from >= w.n {
				return errDone
			}
			if _, err := untilTaken(ctx, func(ctx context.Context) error { return w.write(ctx, kv, turn, from) }); err != nil {
				return err
			}
			if now := answered.Add(batch); w.done != nil {
				w.done(now)
			}
			return nil
		}
	}
	return callers
}

// write makes the call that begins with the put of turn from.
func (w writes) write(ctx context.Context, kv pb.KVClient, turn func(i int) *pb.PutRequest, from int) error {
	if w.batch == 0 {
		_, err := kv.Put(ctx, turn(from))
		return err
	}
	q := &pb.TxnRequest{}
	for i := range w.batch {
		q.Success = append(q.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: turn(from + i)}})
	}
	_, err := kv.Txn(ctx, q)
	return err
}

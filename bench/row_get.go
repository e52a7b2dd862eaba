package bench

import (
	"context"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// getLoad is gets of random keys out of some.
type getLoad struct {
	name         string
	callers      int
	keys         int
	serializable bool
}

func getRows() []row {
	var all []row
	for _, g := range []getLoad{
		{name: "get-1", callers: 1, keys: keysBase},
		{name: "get-16", callers: 16, keys: keysBase},
		{name: "get-1000", callers: baseCallers, keys: keysBase},
		{name: "get-serializable", callers: baseCallers, keys: keysBase, serializable: true},
		{name: "get-keys-10k", callers: baseCallers, keys: keysFew},
	} {
		all = append(all, row{name: g.name, asks: g.question(), show: showCalls, run: g.calls().run})
	}
	return all
}

func (g getLoad) question() string {
	how := "linearizable"
	if g.serializable {
		how = "serializable"
	}
	return fmt.Sprintf("what does a %s get of one of %d keys of %d B cost, %d at a time?", how, g.keys, valueBytes, g.callers)
}

func (g getLoad) calls() calls {
	return calls{
		setup:   setup{stock: stockKeys(g.keys), inPlace: true},
		callers: g.callers,
		params:  map[string]any{"keys": g.keys, "value_bytes": valueBytes, "serializable": g.serializable},
		caller: func(t *task, c *clients, i int, r *rand.Rand) caller {
			return get(c.kvs[i], r, t.n(g.keys, keysShort), g.serializable)
		},
	}
}

// get reads random keys, each of which is there.
func get(kv pb.KVClient, r *rand.Rand, keys int, serializable bool) caller {
	q := &pb.RangeRequest{Serializable: serializable}
	return func(ctx context.Context) error {
		q.Key = key(r.IntN(keys))
		a, err := kv.Range(ctx, q)
		if err == nil && len(a.Kvs) != 1 {
			err = fmt.Errorf("get %s: %d keys", q.Key, len(a.Kvs))
		}
		return err
	}
}

package bench

import (
	"context"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// keysMembers is how many keys the rows of several members start from: they are loaded anew each time.
const keysMembers = 100_000

// putLoad is puts of one size to random keys out of some.
type putLoad struct {
	name    string
	callers int // 0: baseCallers
	bytes   int // of a value; 0: valueBytes
	keys    int // 0: keysBase
	tls     bool
	members int // 0: one
}

func putRows() []row {
	var all []row
	for _, p := range []putLoad{
		{name: "put-1", callers: 1},
		{name: "put-16", callers: 16},
		{name: "put-200", callers: 200},
		{name: "put-1000"},
		{name: "put-value-16B", bytes: 16},
		{name: "put-value-1KB", bytes: 1 << 10},
		{name: "put-value-10KB", bytes: 10 << 10},
		{name: "put-value-100KB", bytes: 100 << 10},
		{name: "put-keys-10k", keys: keysFew},
		{name: "put-tls-1000", tls: true},
		{name: "put-members-3", members: 3, keys: keysMembers},
		{name: "put-members-5", members: 5, keys: keysMembers},
	} {
		if p.callers == 0 {
			p.callers = baseCallers
		}
		if p.bytes == 0 {
			p.bytes = valueBytes
		}
		if p.keys == 0 {
			p.keys = keysBase
		}
		all = append(all, row{name: p.name, asks: p.question(), heavy: p.members > 0, show: showCalls, run: p.calls().run})
	}
	return all
}

func (p putLoad) question() string {
	q := fmt.Sprintf("what does a put of %d B to one of %d keys cost, %d at a time, over at most %d connections?",
		p.bytes, p.keys, p.callers, connectionsMax)
	if p.tls {
		q += " With TLS."
	}
	if p.members > 0 {
		q += fmt.Sprintf(" With %d members.", p.members)
	}
	return q
}

func (p putLoad) calls() calls {
	l := calls{
		callers: p.callers,
		setup:   setup{tls: p.tls, members: p.members, args: []string{roomArg}},
		params:  map[string]any{"value_bytes": p.bytes, "keys": p.keys, "tls": p.tls, "members": max(1, p.members)},
		caller: func(t *task, c *clients, i int, r *rand.Rand) caller {
			return put(c.kvs[i], r, t.n(p.keys, keysShort), p.bytes)
		},
	}
	if p.members > 0 {
		l.prepare = func(ctx context.Context, t *task, m *members) error {
			return fill(ctx, m, writes{n: t.n(p.keys, keysShort)})
		}
	} else {
		l.stock = stockKeys(p.keys)
	}
	return l
}

// put writes random values to random ones of keys.
func put(kv pb.KVClient, r *rand.Rand, keys, bytes int) caller {
	q := &pb.PutRequest{}
	return func(ctx context.Context) error {
		q.Key, q.Value = key(r.IntN(keys)), value(r.IntN(1<<20), bytes)
		_, err := kv.Put(ctx, q)
		return err
	}
}

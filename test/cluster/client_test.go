package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// keyCount is how many keys the clients share: few, so that they overwrite, delete and collide.
const keyCount = 16

// requestTimeout is how long a client waits: longer than an election.
const requestTimeout = 2 * time.Second

// thinkMax keeps the members from being busy with nothing but clients: the machine has more to do.
const thinkMax = 8 * time.Millisecond

// client sends one request after the other, to one member until it fails or the client feels like changing.
type client struct {
	*history
	number  int
	members func() []*member
	rng     *rand.Rand
	at      *member
	sent    int
	mods    map[string]int64 // of keys it has read or written, to guard transactions with

	// through, if it is set, is the connection for reads in place of the member's own.
	through func(*member) grpc.ClientConnInterface
}

func newClient(h *history, number int, members func() []*member, seed uint64) *client {
	return &client{history: h, number: number, members: members, rng: rand.New(rand.NewPCG(seed, uint64(number))), mods: map[string]int64{}}
}

// run works until ctx ends. What is on its way then is waited for.
func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		if c.at == nil || c.rng.IntN(25) == 0 {
			members := c.members()
			c.at = members[c.rng.IntN(len(members))]
		}
		if err := c.step(); err != nil {
			c.at = nil
			time.Sleep(30 * time.Millisecond)
		}
		time.Sleep(time.Duration(c.rng.Int64N(int64(thinkMax))))
	}
}

func (c *client) step() error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	o := &op{client: c.number}
	switch p := c.rng.IntN(100); {
	case p < 22:
		o.reads = span{key: c.key()}
		return c.read(ctx, o)
	case p < 30:
		o.reads = everything
		return c.read(ctx, o)
	case p < 38:
		return c.readHere(ctx)
	case p < 64:
		o.actions = []action{c.put(c.key())}
	case p < 72:
		o.actions = []action{c.deletion(c.key())}
	case p < 92:
		o.actions = []action{c.put(c.key())}
		o.guard = o.actions[0].key
		o.guardMod = c.mods[o.guard]
	default:
		order := c.rng.Perm(keyCount)
		for _, n := range order[:2+c.rng.IntN(3)] {
			o.actions = append(o.actions, c.put(keyName(n)))
		}
		o.actions = append(o.actions, action{span: span{key: keyName(order[keyCount-1])}, deleted: true})
	}
	return c.write(ctx, o)
}

func keyName(n int) string { return fmt.Sprintf("k/%02d", n) }

func (c *client) key() string { return keyName(c.rng.IntN(keyCount)) }

// put sets a key to a value that no other put has.
func (c *client) put(key string) action {
	c.sent++
	value := fmt.Sprintf("c%d-%d", c.number, c.sent)
	if c.rng.IntN(10) == 0 {
		value += strings.Repeat(".", c.rng.IntN(4000))
	}
	return action{span: span{key: key}, value: value}
}

func (c *client) deletion(key string) action {
	a := action{span: span{key: key}, deleted: true}
	if c.rng.IntN(4) == 0 {
		a.end = c.key() // may be an empty range
	}
	return a
}

func (c *client) connection() grpc.ClientConnInterface {
	if c.through != nil {
		return c.through(c.at)
	}
	return c.at.conn
}

// read is linearizable.
func (c *client) read(ctx context.Context, o *op) error {
	c.call(o)
	r, err := pb.NewKVClient(c.connection()).Range(ctx, &pb.RangeRequest{Key: []byte(o.reads.key), RangeEnd: o.reads.rangeEnd()})
	if err != nil {
		return err
	}
	got := outcome{revision: r.GetHeader().GetRevision(), rows: rowsOf(r.GetKvs())}
	c.answer(o, got)
	c.learn(got.rows)
	return nil
}

// readHere is serializable: it may be old, but must be what the store held at its revision.
func (c *client) readHere(ctx context.Context) error {
	r, err := c.at.kv().Range(ctx, &pb.RangeRequest{Key: []byte(everything.key), RangeEnd: everything.rangeEnd(), Serializable: true})
	if err != nil {
		return err
	}
	o := &op{client: c.number, reads: everything, got: outcome{revision: r.GetHeader().GetRevision(), rows: rowsOf(r.GetKvs())}}
	c.mu.Lock()
	c.stale = append(c.stale, o)
	c.mu.Unlock()
	return nil
}

func (c *client) write(ctx context.Context, o *op) error {
	c.call(o)
	got, err := c.send(ctx, o)
	if err != nil {
		return err
	}
	c.answer(o, got)
	c.learn(got.rows)
	for _, a := range o.actions {
		if got.succeeded && !a.deleted {
			c.mods[a.key] = got.revision
		}
	}
	return nil
}

func (c *client) learn(rows []event) {
	for _, row := range rows {
		c.mods[row.key] = row.mod
	}
}

// send sends o the shortest way.
func (c *client) send(ctx context.Context, o *op) (outcome, error) {
	kv := c.at.kv()
	if a := o.actions[0]; len(o.actions) == 1 && o.guard == "" {
		if a.deleted {
			r, err := kv.DeleteRange(ctx, a.deleteRequest())
			return outcome{revision: r.GetHeader().GetRevision(), succeeded: true, deleted: r.GetDeleted()}, err
		}
		r, err := kv.Put(ctx, a.putRequest())
		return outcome{revision: r.GetHeader().GetRevision(), succeeded: true}, err
	}
	r, err := kv.Txn(ctx, o.request())
	if err != nil {
		return outcome{}, err
	}
	got := outcome{revision: r.GetHeader().GetRevision(), succeeded: r.GetSucceeded()}
	for _, one := range r.GetResponses() {
		got.deleted += one.GetResponseDeleteRange().GetDeleted()
		got.rows = append(got.rows, rowsOf(one.GetResponseRange().GetKvs())...)
	}
	return got, nil
}

func (a action) putRequest() *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(a.key), Value: []byte(a.value), Lease: a.lease}
}

func (a action) deleteRequest() *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: []byte(a.key), RangeEnd: a.rangeEnd()}
}

func (o *op) request() *pb.TxnRequest {
	q := &pb.TxnRequest{}
	if o.guard != "" {
		q.Compare = []*pb.Compare{{
			Key: []byte(o.guard), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: o.guardMod},
		}}
		q.Failure = []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(o.guard)}}}}
	}
	for _, a := range o.actions {
		if a.deleted {
			q.Success = append(q.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: a.deleteRequest()}})
		} else {
			q.Success = append(q.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: a.putRequest()}})
		}
	}
	return q
}

package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// keyCount is how many keys the clients share: few, so that they overwrite, delete and collide.
const keyCount = 24

// load is what some clients do until the crash.
type load struct {
	journal *journal
	conn    *grpc.ClientConn
	clients int
	perEach int // operations of each client, at most
	// ttls are drawn for new leases, in seconds.
	ttls []int64
}

// run lets the clients work until they are done, ctx ends or the member stops answering.
func (l load) run(ctx context.Context, seed uint64) {
	var wg sync.WaitGroup
	for i := range l.clients {
		c := &client{
			load: l, kv: pb.NewKVClient(l.conn), leases: pb.NewLeaseClient(l.conn), maintenance: pb.NewMaintenanceClient(l.conn),
			rng: rand.New(rand.NewPCG(seed, uint64(i))), mods: map[string]int64{},
		}
		wg.Go(func() {
			for range l.perEach {
				if !c.step(ctx) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// follow keeps a watch on all keys, from the first revision that the watcher before it had not been sent, until ctx ends.
func follow(ctx context.Context, j *journal, conn *grpc.ClientConn) {
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return
	}
	j.mu.Lock()
	from := j.lastSeen + 1
	j.mu.Unlock()
	create := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from}
	if stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}) != nil {
		return
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return
		}
		if r.GetCanceled() {
			j.breach("the watch from revision %d was canceled: %s (compacted at %d)", from, r.GetCancelReason(), r.GetCompactRevision())
			return
		}
		events := make([]event, len(r.GetEvents()))
		for i, e := range r.GetEvents() {
			events[i] = eventOf(e)
		}
		j.see(events)
	}
}

// client sends one request after the other.
type client struct {
	load
	kv          pb.KVClient
	leases      pb.LeaseClient
	maintenance pb.MaintenanceClient
	rng         *rand.Rand
	mods        map[string]int64 // of keys this client has written, to guard transactions with
}

// step sends one request and takes in the answer. It reports false when the member is gone.
func (c *client) step(ctx context.Context) bool {
	switch p := c.rng.IntN(100); {
	case p < 45:
		return c.write(ctx, &op{actions: []action{c.put(c.key())}})
	case p < 55:
		return c.write(ctx, &op{actions: []action{c.deletion()}})
	case p < 75:
		return c.write(ctx, c.transaction())
	case p < 82:
		return c.grant(ctx)
	case p < 87:
		return c.revoke(ctx)
	case p < 90:
		return c.renew(ctx)
	case p < 93:
		return c.compact(ctx)
	case p < 97:
		return c.read(ctx)
	}
	return c.hash(ctx)
}

func (c *client) key() string { return fmt.Sprintf("key/%02d", c.rng.IntN(keyCount)) }

// put sets key to a value that no other put has: the journal puts the operation's number in front. Some values span
// several blocks of the disk.
func (c *client) put(key string) action {
	a := action{key: key, value: strings.Repeat("x", c.rng.IntN(200))}
	if c.rng.IntN(20) == 0 {
		a.value = strings.Repeat("y", 3000+c.rng.IntN(8000))
	}
	if c.rng.IntN(5) == 0 {
		a.lease = c.anyLease()
	}
	return a
}

func (c *client) deletion() action {
	a := action{deleted: true, key: c.key()}
	if c.rng.IntN(4) == 0 {
		a.end = c.key() // may be an empty range
	}
	return a
}

// transaction writes several keys at once, guarded by the mod revision that this client knows of one, or unguarded.
func (c *client) transaction() *op {
	o := &op{}
	for _, n := range c.rng.Perm(keyCount)[:2+c.rng.IntN(4)] {
		key := fmt.Sprintf("key/%02d", n)
		if c.rng.IntN(4) == 0 {
			o.actions = append(o.actions, action{deleted: true, key: key})
		} else {
			o.actions = append(o.actions, c.put(key))
		}
	}
	if c.rng.IntN(2) == 0 {
		o.guard = o.actions[0].key
		o.guardMod = c.mods[o.guard]
	}
	return o
}

func (c *client) write(ctx context.Context, o *op) bool {
	if !c.journal.begin(o) {
		return false
	}
	revision, changed, err := c.send(ctx, o)
	if err != nil {
		if certain(err) {
			c.journal.refused(o)
			return true
		}
		return false
	}
	c.journal.acknowledged(o, revision, changed)
	for _, a := range o.actions {
		if changed {
			c.mods[a.key] = revision
		}
		if changed && a.deleted {
			c.mods[a.key] = 0
		}
	}
	return true
}

// certain tells that a request which failed with err was not, and will not be, carried out.
func certain(err error) bool {
	switch status.Code(err) {
	case codes.NotFound, codes.OutOfRange, codes.FailedPrecondition, codes.InvalidArgument:
		return true
	}
	return false
}

// send sends o the shortest way and returns its revision and whether it did anything.
func (c *client) send(ctx context.Context, o *op) (revision int64, changed bool, err error) {
	if a := o.actions[0]; len(o.actions) == 1 && o.guard == "" {
		if a.deleted {
			r, err := c.kv.DeleteRange(ctx, a.deleteRequest())
			return r.GetHeader().GetRevision(), r.GetDeleted() > 0, err
		}
		r, err := c.kv.Put(ctx, a.putRequest())
		return r.GetHeader().GetRevision(), true, err
	}
	r, err := c.kv.Txn(ctx, o.request())
	if err != nil {
		return 0, false, err
	}
	for _, answer := range r.GetResponses() {
		changed = changed || answer.GetResponsePut() != nil || answer.GetResponseDeleteRange().GetDeleted() > 0
	}
	return r.GetHeader().GetRevision(), changed, nil
}

func (a action) putRequest() *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(a.key), Value: []byte(a.value), Lease: a.lease}
}

func (a action) deleteRequest() *pb.DeleteRangeRequest {
	q := &pb.DeleteRangeRequest{Key: []byte(a.key)}
	if a.end != "" {
		q.RangeEnd = []byte(a.end)
	}
	return q
}

func (o *op) request() *pb.TxnRequest {
	q := &pb.TxnRequest{}
	if o.guard != "" {
		q.Compare = []*pb.Compare{{
			Key: []byte(o.guard), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: o.guardMod},
		}}
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

// anyLease is a lease that was granted and that nobody asked to revoke; 0 if there is none.
func (c *client) anyLease() (id int64) {
	c.journal.note(func() {
		for candidate, l := range c.journal.leases {
			if l.granted && !l.ending {
				id = candidate // the order of a map is random enough
				return
			}
		}
	})
	return id
}

// leasesMax bounds the leases that are alive at once.
const leasesMax = 12

func (c *client) grant(ctx context.Context) bool {
	id, ttl := c.rng.Int64N(1<<40)+1, c.ttls[c.rng.IntN(len(c.ttls))]
	fact := &leaseFact{ttl: ttl}
	full := false
	if !c.journal.note(func() {
		if full = len(c.journal.leases) >= leasesMax; !full {
			c.journal.leases[id] = fact
		}
	}) {
		return false
	}
	if full {
		return c.revoke(ctx)
	}
	began := time.Now()
	r, err := c.leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
	if err != nil {
		return false
	}
	if r.GetTTL() != ttl || r.GetID() != id {
		c.journal.breach("lease %x with %d seconds was granted as %x with %d", id, ttl, r.GetID(), r.GetTTL())
	}
	return c.journal.note(func() {
		fact.granted, fact.until = true, began.Add(time.Duration(ttl)*time.Second)
		c.journal.top = max(c.journal.top, r.GetHeader().GetRevision())
	})
}

func (c *client) revoke(ctx context.Context) bool {
	id := c.anyLease()
	if id == 0 {
		return true
	}
	var fact *leaseFact
	if !c.journal.note(func() { fact = c.journal.leases[id]; fact.ending = true }) {
		return false
	}
	_, err := c.leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
	if err != nil && status.Code(err) != codes.NotFound { // another client or the clock may have been first
		return false
	}
	return c.journal.note(func() { fact.ended = true })
}

func (c *client) renew(ctx context.Context) bool {
	id := c.anyLease()
	if id == 0 {
		return true
	}
	stream, err := c.leases.LeaseKeepAlive(ctx)
	if err != nil {
		return false
	}
	defer func() { _ = stream.CloseSend() }() // it ends with ctx at the latest
	began := time.Now()
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		return false
	}
	r, err := stream.Recv()
	if err != nil {
		return false
	}
	return c.journal.note(func() {
		if fact := c.journal.leases[id]; fact != nil && r.GetTTL() > 0 {
			fact.until = began.Add(time.Duration(r.GetTTL()) * time.Second)
		}
	})
}

// compact compacts below what the watcher has seen: what nobody has seen cannot be judged afterwards.
func (c *client) compact(ctx context.Context) bool {
	var rev int64
	if !c.journal.note(func() {
		rev = c.journal.lastSeen - 10 - c.rng.Int64N(100)
		if rev > c.journal.compacted {
			c.journal.compactionAsked = append(c.journal.compactionAsked, rev)
		}
	}) {
		return false
	}
	if rev < 2 {
		return true
	}
	_, err := c.kv.Compact(ctx, &pb.CompactionRequest{Revision: rev, Physical: c.rng.IntN(4) == 0})
	if err != nil {
		return certain(err)
	}
	return c.journal.note(func() { c.journal.compacted = max(c.journal.compacted, rev) })
}

// readsKept bounds the reads that are judged after a crash.
const readsKept = 12

func (c *client) read(ctx context.Context) bool {
	floor := c.journal.known()
	r, err := c.kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		return false
	}
	revision := r.GetHeader().GetRevision()
	if revision < floor {
		c.journal.breach("a linearizable read saw revision %d when %d was known", revision, floor)
	}
	return c.journal.note(func() {
		c.journal.top = max(c.journal.top, revision)
		if len(c.journal.reads) < readsKept {
			c.journal.reads = append(c.journal.reads, readFact{revision, rowsOf(r.GetKvs())})
		}
	})
}

func (c *client) hash(ctx context.Context) bool {
	var rev int64
	if !c.journal.note(func() { rev = c.journal.lastSeen - c.rng.Int64N(20) }) {
		return false
	}
	if rev < 1 {
		return true
	}
	r, err := c.maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: rev})
	if err != nil {
		return certain(err)
	}
	return c.journal.note(func() {
		c.journal.hashes[rev] = hashOf(r)
	})
}

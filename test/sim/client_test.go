package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/apply"
	"holdfast/kv"
)

const (
	clientsPerRun = 12
	keysPerRun    = 16
	thinkMax      = 200 * time.Millisecond
)

// client sends one request after the other.
type client struct {
	w      *world
	id     int
	member int // the one it talks to
	// user is who it says it is, with a token once it has logged in; none where there are no users.
	user, token string
}

// op is one request and what became of it.
type op struct {
	id           uint64
	client       int
	member       *member
	payload      []byte           // of a command
	query        *kv.RangeRequest // of a question; then payload is nil
	txn          *kv.TxnRequest   // of a transaction that only reads; then both are nil
	sees         bool             // everything acknowledged before: it is not serializable
	after        int              // index of the last entry of which a client knew when it was asked
	call, answer int64            // moments; answer is 0 while there is none
	got          result
}

func (o *op) String() string {
	return fmt.Sprintf("request %x of client %d at %s", o.id, o.client, o.member)
}

// next sends the next request, unless the run is over.
func (c *client) next() {
	w := c.w
	if w.now > faultyTime+calmTime/3 {
		return
	}
	for range len(w.members) {
		if m := w.members[c.member]; m.serves() && !(m.pausedUntil > w.now) && !w.chance(1) {
			break
		}
		c.member = w.rnd.IntN(len(w.members))
	}
	m := w.members[c.member]
	if !m.serves() || m.pausedUntil > w.now {
		c.think()
		return
	}
	c.send(m.life)
}

func (c *client) think() { c.w.after(c.w.between(0, thinkMax), c.next) }

func (c *client) send(l *life) {
	w := c.w
	o := &op{id: uint64(w.moment())<<1 | 1, client: c.id, member: l.member, call: w.moment()}
	w.counts["requests"]++
	switch p := w.rnd.IntN(100); {
	case p < 18:
		c.get(l, o, true)
	case p < 26:
		c.get(l, o, false)
	case p < 30:
		c.readTxn(l, o)
	case p < 38:
		c.renew()
	default:
		user, revision, known := c.identify(l)
		if !known {
			c.login(l)
			return
		}
		o.payload = c.command(kv.CommandHeader{ID: o.id, Username: user, AuthRevision: revision}, o, p)
		w.note("client %d asks %s, request %x: %d bytes", c.id, l.member, o.id, len(o.payload))
		w.judge.began(o)
		l.propose(o.id, o.payload, requestTimeout, func(r *apply.Result, err error) { c.answered(o, r, err) })
	}
}

func (c *client) key() string { return fmt.Sprintf("k%02d", c.w.rnd.IntN(keysPerRun)) }

// span draws a key, or an interval of keys.
func (c *client) span() (key, end []byte) {
	key = []byte(c.key())
	switch c.w.rnd.IntN(4) {
	case 0:
		if end := []byte("k12"); c.user == "" || !empty(key, end) {
			return key, end
		}
	case 1:
		return []byte("k"), []byte("l")
	}
	return key, nil
}

// value names the request; some are long, so that the log's segments fill up.
func (c *client) value(o *op) []byte {
	text := fmt.Sprintf("v%x", o.id)
	if c.w.chance(20) {
		text += strings.Repeat(".", 500+c.w.rnd.IntN(3000))
	}
	return []byte(text)
}

// command draws a command; p is from 38 to 99.
func (c *client) command(h kv.CommandHeader, o *op, p int) []byte {
	w := c.w
	switch {
	case p < 62:
		return sealed(h, kv.KindPut, &pb.PutRequest{Key: []byte(c.key()), Value: c.value(o), PrevKv: w.chance(30)})
	case p < 69:
		return sealed(h, kv.KindPut, &pb.PutRequest{Key: []byte(c.key()), Value: c.value(o), Lease: int64(w.judge.someLease())})
	case p < 76:
		key, end := c.span()
		if w.chance(80) {
			end = nil
		}
		return sealed(h, kv.KindDeleteRange, &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: w.chance(30)})
	case p < 92:
		return sealed(h, kv.KindTxn, c.txn(o, &distinct{first: w.rnd.IntN(keysPerRun)}, 0))
	case p < 96:
		return kv.DraftLeaseGrant(&kv.LeaseGrantRequest{TTL: c.ttl(), ID: w.judge.newLease()}).Seal(h)
	case p < 98:
		return kv.DraftLeaseRevoke(&kv.LeaseRevokeRequest{ID: w.judge.someLease()}).Seal(h)
	}
	rev := max(1, w.judge.now.revision-kv.Revision(w.rnd.IntN(200)))
	return kv.DraftCompact(&kv.CompactRequest{Revision: rev}).Seal(h)
}

// ttl draws the life of a lease: short, or at times long enough for the members to agree on what is left of it.
func (c *client) ttl() int64 {
	if c.w.now < faultyTime/2 && c.w.chance(40) {
		return int64(longLife/time.Second) + c.w.rnd.Int64N(5)
	}
	return 1 + c.w.rnd.Int64N(8)
}

func sealed(h kv.CommandHeader, kind kv.Kind, m proto.Message) []byte {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return kv.DraftOf(kind, body).Seal(h)
}

// txn draws a transaction that writes: in each branch, what is nested in it included, every key is changed once at most, as
// the API demands.
func (c *client) txn(o *op, keys *distinct, depth int) *pb.TxnRequest {
	q := &pb.TxnRequest{}
	for range c.w.rnd.IntN(3) {
		q.Compare = append(q.Compare, c.compare())
	}
	q.Success = c.ops(o, keys, depth)
	if c.w.chance(70) {
		q.Failure = c.ops(o, keys, depth)
	}
	return q
}

func (c *client) compare() *pb.Compare {
	key := c.key()
	now := c.w.judge.now.keys[key]
	q := &pb.Compare{Key: []byte(key), Result: pb.Compare_CompareResult(c.w.rnd.IntN(4))}
	switch c.w.rnd.IntN(5) {
	case 0:
		q.Target, q.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: now.Version}
	case 1:
		q.Target, q.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: int64(now.Create)}
	case 2:
		q.Target, q.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: int64(now.Mod)}
	case 3:
		q.Target, q.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: int64(now.Lease)}
	default:
		q.Target, q.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: now.Value}
	}
	return q
}

// distinct gives keys, each once.
type distinct struct{ first, given int }

func (d *distinct) next() []byte {
	d.given++
	return fmt.Appendf(nil, "k%02d", (d.first+d.given)%keysPerRun)
}

func (c *client) ops(o *op, keys *distinct, depth int) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for range 1 + c.w.rnd.IntN(3) {
		if keys.given == keysPerRun {
			break
		}
		key := keys.next()
		switch p := c.w.rnd.IntN(9); {
		case p < 2:
			key, end := c.span()
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, RangeEnd: end}}})
		case p < 4:
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, PrevKv: true}}})
		case p == 4 && depth == 0:
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: c.txn(o, keys, depth+1)}})
		case p == 5:
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: c.value(o), Lease: int64(c.w.judge.someLease())}}})
		default:
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: c.value(o), PrevKv: c.w.chance(30)}}})
		}
	}
	return ops
}

// answered takes in what became of a command.
func (c *client) answered(o *op, r *apply.Result, err error) {
	switch {
	case err == errRefused:
		c.w.judge.refused(o)
	case err != nil:
		c.w.counts["requests without an answer"]++
		c.w.note("client %d gives up request %x", c.id, o.id)
	default:
		o.answer, o.got = c.w.moment(), showResult(r)
		c.w.judge.acknowledged(o)
		c.w.note("client %d has request %x: %v", c.id, o.id, o.got)
	}
	c.think()
}

// get reads keys: those of now, or, serializable, whatever the member has, sometimes at an old revision.
func (c *client) get(l *life, o *op, linearizable bool) {
	key, end := c.span()
	o.query, o.sees = &kv.RangeRequest{KeyRange: kv.KeyRange{Key: key, End: end}, Serializable: !linearizable}, linearizable
	if c.w.chance(20) {
		o.query.Limit = 1 + c.w.rnd.Int64N(4)
	}
	if !linearizable && c.w.chance(40) {
		o.query.Revision = max(1, l.keys.Revision()-kv.Revision(c.w.rnd.IntN(60)))
	}
	o.after = c.w.judge.known
	read := func(err error) {
		if err == nil && c.mayRead(l, o, o.query) {
			var answer *kv.RangeResult
			if answer, err = l.rangeNow(o.query); err == nil {
				o.got = result{revision: answer.Revision, text: showRange(answer.Count, answer.More, showRows(&answer.Rows))}
			} else {
				o.got = result{err: err}
			}
			c.haveRead(l, o)
		}
		c.think()
	}
	if !linearizable {
		read(nil)
		return
	}
	l.whenCommitted(read)
}

func (c *client) readTxn(l *life, o *op) {
	q := &kv.TxnRequest{Success: []kv.Op{{Range: &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte(c.key())}}}, {Range: &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k"), End: []byte("l")}}}}}
	o.txn, o.sees, o.after = q, true, c.w.judge.known
	l.whenCommitted(func(err error) {
		if err == nil && c.mayRead(l, o, q.Success[0].Range, q.Success[1].Range) {
			answer, err := apply.ReadTxn(context.Background(), l.keys, q)
			if err != nil {
				c.w.fail("%v: %v", o, err)
			}
			o.got = result{revision: answer.Revision, text: showTxn(answer)}
			c.haveRead(l, o)
		}
		c.think()
	})
}

func (c *client) haveRead(l *life, o *op) {
	o.answer = c.w.moment()
	c.w.note("client %d reads at %s: %v", c.id, l.member, o.got)
	c.w.judge.read(l, o)
}

// renew keeps a lease alive, which only a member can that leads, or believes so.
func (c *client) renew() {
	var leaders []*life
	for _, m := range c.w.members {
		if m.life != nil && m.life.led != 0 && m.pausedUntil <= c.w.now {
			leaders = append(leaders, m.life)
		}
	}
	if len(leaders) == 0 {
		c.think()
		return
	}
	l := leaders[c.w.rnd.IntN(len(leaders))]
	id, called, call := c.w.judge.someLeaseToRenew(), c.w.now, c.w.moment()
	if c.w.now > faultyTime && c.w.judge.lives[id].ttl >= longLife { // or it would outlive the run
		c.think()
		return
	}
	l.whenCommitted(func(err error) {
		if err != nil {
			c.think()
			return
		}
		l.renew(id, func(renewed bool) {
			if renewed {
				c.w.counts["renewals"]++
				c.w.note("client %d renewed lease %d at %s", c.id, int64(id), l.member)
				c.w.judge.renewed(id, called, call)
			}
			c.think()
		})
	})
}

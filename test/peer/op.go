package peer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

type header = pb.ResponseHeader

const deleteEvent = mvccpb.Event_DELETE

// An op is one operation of an episode. Running it returns a *difference when the servers do not agree, another error
// when the harness cannot go on. Its text is what a report shows.
type op interface {
	fmt.Stringer
	run(w *world) error
}

// A call is one gRPC call with one request or, for a stream of requests, several.
type call struct {
	conn     int
	path     string
	md       metadata.MD
	requests []proto.Message
	raw      []byte // sent in place of requests when not nil

	// rule is the rule of the catalogue this call is there for, "" for one drawn at random; the rule counts as met when
	// the reference's answer satisfies met.
	rule string
	met  func(w *world, a answer) bool

	before func(w *world) error                    // nil, or what has to happen first
	after  func(w *world, want answer, rev int64)  // nil, or what to learn from the answer; rev is the request's
	chose  func(w *world, want, got proto.Message) // nil, or how to learn what the servers chose
}

func (c *call) pair(w *world) func(want, got answer) {
	if c.chose == nil {
		return nil
	}
	return func(want, got answer) { c.chose(w, want.only(), got.only()) }
}

func (c *call) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %d %s", c.conn, strings.TrimPrefix(c.path, "/etcdserverpb."))
	if c.md != nil {
		fmt.Fprintf(&b, " metadata %v", c.md)
	}
	if c.raw != nil {
		fmt.Fprintf(&b, " bytes %s", showRaw(c.raw))
	}
	for _, r := range c.requests {
		fmt.Fprintf(&b, " {%s}", short(r))
	}
	if c.rule != "" {
		fmt.Fprintf(&b, "   # %s", c.rule)
	}
	return b.String()
}

// with adds a pair of metadata to the call.
func (c *call) with(key, value string) *call {
	c.md = metadata.Join(c.md, metadata.Pairs(key, value))
	return c
}

func (c *call) run(w *world) error {
	if w.methodLine(w.omitted, c.path) != "" || w.skips(c) {
		return nil
	}
	if c.before != nil {
		if err := c.before(w); err != nil {
			return err
		}
	}
	if err := w.replay(); err != nil {
		return err
	}
	resolved := [2][]proto.Message{}
	for t := range w.targets {
		for _, r := range c.requests {
			resolved[t] = append(resolved[t], w.resolve(r, t))
		}
	}
	var request proto.Message
	switch {
	case c.raw != nil:
		request = parsed(c.path, c.raw)
	case len(resolved[0]) > 0:
		request = resolved[0][0]
	}
	send := func(t int) answer {
		if c.raw != nil {
			return w.targets[t].callRaw(c.conn, c.path, c.raw)
		}
		return joined(w.targets[t].call(c.conn, c.path, c.md, resolved[t]...))
	}
	if w.leftOut(c.path, &send) {
		return nil
	}
	if w.spared(request) {
		return nil
	}
	if err := w.catchUp(w.targets[1], c.conn, c.path, resolved[1]); err != nil {
		return err
	}
	w.previous = w.current
	want, _, err := w.exchange(request, send, c.pair(w))
	if err != nil {
		return err
	}
	if c.rule != "" && c.met(w, want) {
		w.tally.hit(c.rule)
	}
	if c.after != nil {
		c.after(w, want, revisionOf(request))
	}
	return nil
}

// revisionOf returns the revision a request names, 0 when it names none.
func revisionOf(m proto.Message) int64 {
	if r, ok := m.(interface{ GetRevision() int64 }); ok {
		return r.GetRevision()
	}
	return 0
}

// joined turns the chunks of a RangeStream into one message and checks their rules: each chunk but the last carries keys
// and nothing else, and keys rise across chunks. A breach becomes the text of the answer, so that it is compared.
func joined(a answer) answer {
	if len(a.messages) == 0 {
		return a
	}
	if _, ok := a.messages[0].(*pb.RangeStreamResponse); !ok {
		return a
	}
	whole := &pb.RangeResponse{}
	for i, m := range a.messages {
		r := m.(*pb.RangeStreamResponse).RangeResponse
		last := i == len(a.messages)-1
		if !last && (r.Header != nil || r.More || r.Count != 0 || len(r.Kvs) == 0) {
			a.code, a.text = codes.DataLoss, fmt.Sprintf("peer: chunk %d of %d: %s", i, len(a.messages), short(r))
		}
		if n := len(whole.Kvs); n > 0 && len(r.Kvs) > 0 && string(whole.Kvs[n-1].Key) >= string(r.Kvs[0].Key) {
			a.code, a.text = codes.DataLoss, fmt.Sprintf("peer: chunk %d begins at %q", i, r.Kvs[0].Key)
		}
		whole.Header, whole.More, whole.Count = r.Header, r.More, r.Count
		whole.Kvs = append(whole.Kvs, r.Kvs...)
	}
	a.chunks, a.messages = len(a.messages), []proto.Message{whole}
	return a
}

// restart ends both servers and starts them again, by a kill or by asking.
type restart struct{ kill bool }

func (r restart) String() string { return fmt.Sprintf("restart both servers, kill=%t", r.kill) }

func (r restart) run(w *world) error {
	if err := w.barrier(); err != nil {
		return err
	}
	if err := w.waitCompacted(); err != nil {
		return err
	}
	if err := w.replay(); err != nil {
		return err
	}
	w.closeStreams()
	var again sync.WaitGroup
	var failed [2]error
	var ready [2]time.Time
	for t := range w.targets { // at the same time, as the lives of leases start over with it
		again.Go(func() {
			failed[t] = w.again(t, r.kill)
			ready[t] = time.Now()
		})
	}
	again.Wait()
	if err := errors.Join(failed[:]...); err != nil {
		return w.differ("%v", err)
	}
	w.slack = int64(math.Ceil(ready[0].Sub(ready[1]).Abs().Seconds()))
	w.restarted, w.patchy = true, false
	w.replays = 0 // the new history begins further back; what it repeats leaves keys as they are
	return nil
}

// again ends one server and starts it on the data it left.
func (w *world) again(t int, kill bool) error {
	server := w.targets[t].server
	if kill {
		server.Kill()
	} else if err := server.Stop(); err != nil {
		return err
	}
	if err := server.Restart(context.Background()); err != nil {
		return err
	}
	return w.connect(t)
}

// expire grants short leases, hangs keys on them and waits until both servers have taken them away.
type expire struct {
	id   int64
	ttl  int64
	keys []string
}

func (e expire) String() string {
	return fmt.Sprintf("let lease %d with TTL %d and keys %q expire", e.id, e.ttl, e.keys)
}

func (e expire) run(w *world) error {
	ops := []op{&call{path: leaseGrant, requests: []proto.Message{&pb.LeaseGrantRequest{ID: e.id, TTL: e.ttl}}}}
	for _, k := range e.keys {
		ops = append(ops, &call{path: put, requests: []proto.Message{&pb.PutRequest{Key: []byte(k), Lease: e.id}}})
	}
	for _, o := range ops {
		if err := o.run(w); err != nil {
			return err
		}
	}
	gone := func(t int) bool {
		a := w.targets[t].call(0, leaseTimeToLive, nil, &pb.LeaseTimeToLiveRequest{ID: e.id})
		r, ok := a.only().(*pb.LeaseTimeToLiveResponse)
		return ok && r.TTL == -1
	}
	deadline := time.Now().Add(deliverLimit)
	for t := range w.targets {
		for !gone(t) {
			if time.Now().After(deadline) {
				return w.differ("lease %d has not expired on %s", e.id, w.targets[t].name)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	// The keys went at one revision on both; a read brings the new revision, a barrier the events.
	read := &call{path: kvRange, requests: []proto.Message{&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}}}
	if err := read.run(w); err != nil {
		return err
	}
	if err := w.barrier(); err != nil {
		return err
	}
	w.countExpiry(e)
	return nil
}

// countExpiry counts the rules of expiry if the history ends with what they promise.
func (w *world) countExpiry(e expire) {
	w.tally.hit("1.10 a lease expires")
	events := w.histories[0].events()
	n := len(e.keys)
	if n == 0 || len(events) < n {
		return
	}
	tail := events[len(events)-n:]
	for i, ev := range tail {
		if ev.Type != deleteEvent || ev.Kv.ModRevision != tail[0].Kv.ModRevision || i > 0 && string(tail[i-1].Kv.Key) >= string(ev.Kv.Key) {
			return
		}
	}
	w.tally.hit("1.10 an expired lease takes its keys, sorted, in one revision")
	w.tally.hit("1.9 expiry is an ordinary delete event")
}

// waitCompacted waits until the last compaction has been carried out on both servers, which shows in the compacted
// revision that HashKV reports for it. Only after that does etcd remember the hash of the next one.
func (w *world) waitCompacted() error {
	if w.hashReady || w.restarted || w.patchy || w.compacted == 0 {
		return nil
	}
	for _, target := range w.targets {
		for conn := range target.members {
			done := eventually(func() bool {
				a := target.call(conn, hashKV, nil, &pb.HashKVRequest{Revision: w.compacted})
				r, ok := a.only().(*pb.HashKVResponse)
				return a.code != codes.OK || ok && r.CompactRevision != w.compacted
			})
			if !done {
				return w.differ("HashKV(%d) on %s, member %d, never answers with the hash from before the compaction", w.compacted,
					target.name, conn)
			}
		}
	}
	w.hashReady = true
	return nil
}

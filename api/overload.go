package api

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/tap"

	"holdfast/metrics"
	"holdfast/server"
)

// A call beyond what the member can have under way is refused when its header arrives, on the goroutine that reads the
// connection: it gets no goroutine, no buffer and no place in a queue.
//
// Calls are counted in classes, so that a flood of one leaves the others: reads, writes, and logins,
// which may wait for a core for long. Watches, keepalives of leases and what keeps a
// cluster running are in neither: they must go on above all, and one stream of them carries many requests. Nor are calls that
// wait for a lock or an election: they may wait for long, and the queue of proposals bounds what they write.
//
// A call counts from its header to its answer. One that never comes to run, because its client broke off or sent what cannot
// be read, is found when the class is full: gRPC tells nobody that it is over but whoever asks its context. To be told
// (context.AfterFunc) costs 0.6 µs for each call, the list of those that do not run yet 0.1 µs (BenchmarkAdmit).

// load counts the calls under way.
type load struct {
	reads, writes, logins callClass
}

func newLoad(callsMax int) *load {
	return &load{reads: callClass{max: callsMax}, writes: callClass{max: callsMax}, logins: callClass{max: callsMax}}
}

// class is where a method is counted; nil is nowhere.
func (l *load) class(method string) *callClass {
	switch method {
	case "/etcdserverpb.KV/Range", "/etcdserverpb.KV/RangeStream",
		"/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Lease/LeaseLeases", "/v3electionpb.Election/Leader":
		return &l.reads
	case "/etcdserverpb.KV/Put", "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Compact",
		"/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseRevoke",
		"/v3lockpb.Lock/Unlock", "/v3electionpb.Election/Proclaim", "/v3electionpb.Election/Resign":
		return &l.writes
	case "/etcdserverpb.Auth/Authenticate":
		return &l.logins
	}
	return nil
}

// sample shows how many calls are under way, and how many were refused.
func (l *load) sample(s *metrics.Sample) {
	for name, k := range map[string]*callClass{"read": &l.reads, "write": &l.writes, "login": &l.logins} {
		k.mu.Lock()
		under, refused := k.under, k.refused
		k.mu.Unlock()
		s.Set(metrics.CallsUnderWay, float64(under), name)
		s.Set(metrics.CallsRefused, float64(refused), name)
	}
}

// errOverload is what a refused call gets.
var errOverload = toWire(server.ErrTooManyRequests)

// admit is gRPC's tap: it sees each call before anything is done for it.
func (l *load) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	class := l.class(info.FullMethodName)
	if class == nil {
		return ctx, nil
	}
	c := &ticket{Context: ctx, class: class}
	if !class.enter(c) {
		return nil, errOverload
	}
	return c, nil
}

// callClass counts the calls of one class.
type callClass struct {
	max int

	mu      sync.Mutex // guards the fields below, and the links of tickets
	under   int        // calls admitted and not over
	entered uint64     // since the start
	refused uint64     // since the start
	first   *ticket    // of those that do not run yet
	swept   time.Time
}

// ticket is the context of a call that is counted.
type ticket struct {
	context.Context
	class      *callClass
	prev, next *ticket
	waits      bool // is in the list of those that do not run yet
}

// sweepPause is the rest between two searches of a full class for calls that are over: they cost up to 0.1 ms, and a client
// that is refused tries again later than that.
const sweepPause = 50 * time.Millisecond

// enter counts c, or says that there are too many.
func (k *callClass) enter(c *ticket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.under >= k.max && !k.sweep() {
		k.refused++
		return false
	}
	k.under++
	k.entered++
	c.waits, c.next = true, k.first
	if c.next != nil {
		c.next.prev = c
	}
	k.first = c
	return true
}

// admitted counts the calls that were let in since the start.
func (k *callClass) admitted() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.entered
}

// sweep forgets the calls that are over and never ran, and tells whether there were any. Caller holds mu.
func (k *callClass) sweep() bool {
	now := time.Now()
	if now.Sub(k.swept) < sweepPause {
		return false
	}
	k.swept = now
	before := k.under
	for c := k.first; c != nil; {
		next := c.next
		if c.Err() != nil {
			k.unlink(c)
			k.under--
		}
		c = next
	}
	return k.under < before
}

// unlink takes c off the list of those that do not run yet. Caller holds mu.
func (k *callClass) unlink(c *ticket) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		k.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next, c.waits = nil, nil, false
}

// run says that c runs from now on, and tells whether it still counts.
func (k *callClass) run(c *ticket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !c.waits {
		return false
	}
	k.unlink(c)
	return true
}

func (k *callClass) leave() {
	k.mu.Lock()
	k.under--
	k.mu.Unlock()
}

type ticketKey struct{}

// Value implements context.Context.
func (c *ticket) Value(key any) any {
	if key == (ticketKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// running says that the call of ctx runs, and returns the class that is to be left at its end; nil is none.
func running(ctx context.Context) *callClass {
	if c, is := ctx.Value(ticketKey{}).(*ticket); is && c.class.run(c) {
		return c.class
	}
	return nil
}

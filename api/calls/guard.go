package calls

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/tap"

	"holdfast/metrics"
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

// Guard counts the calls under way, and refuses those that are too many.
type Guard struct {
	reads, writes, logins Class
	refusal               error
}

// NewGuard makes one that admits callsMax calls of each class, and answers others with refusal.
func NewGuard(callsMax int, refusal error) *Guard {
	return &Guard{reads: Class{max: callsMax}, writes: Class{max: callsMax}, logins: Class{max: callsMax}, refusal: refusal}
}

// class is where a method is counted; nil is nowhere.
func (g *Guard) class(method string) *Class {
	switch method {
	case "/etcdserverpb.KV/Range", "/etcdserverpb.KV/RangeStream",
		"/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Lease/LeaseLeases", "/v3electionpb.Election/Leader":
		return &g.reads
	case "/etcdserverpb.KV/Put", "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Compact",
		"/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseRevoke",
		"/v3lockpb.Lock/Unlock", "/v3electionpb.Election/Proclaim", "/v3electionpb.Election/Resign":
		return &g.writes
	case "/etcdserverpb.Auth/Authenticate":
		return &g.logins
	}
	return nil
}

// Sample shows how many calls are under way, and how many were refused.
func (g *Guard) Sample(s *metrics.Sample) {
	for name, k := range map[string]*Class{"read": &g.reads, "write": &g.writes, "login": &g.logins} {
		k.mu.Lock()
		under, refused := k.under, k.refused
		k.mu.Unlock()
		s.Set(metrics.CallsUnderWay, float64(under), name)
		s.Set(metrics.CallsRefused, float64(refused), name)
	}
}

// Writes counts the writes that were admitted since the start.
func (g *Guard) Writes() uint64 {
	g.writes.mu.Lock()
	defer g.writes.mu.Unlock()
	return g.writes.entered
}

// Admit is gRPC's tap: it sees each call before anything is done for it.
func (g *Guard) Admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	class := g.class(info.FullMethodName)
	if class == nil {
		return ctx, nil
	}
	c := &ticket{Context: ctx, class: class}
	if !class.enter(c) {
		return nil, g.refusal
	}
	return c, nil
}

// Class counts the calls of one class.
type Class struct {
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
	class      *Class
	prev, next *ticket
	waits      bool // is in the list of those that do not run yet
}

// SweepPause is the rest between two searches of a full class for calls that are over: they cost up to 0.1 ms, and a client
// that is refused tries again later than that.
const SweepPause = 50 * time.Millisecond

// enter counts c, or says that there are too many.
func (k *Class) enter(c *ticket) bool {
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

// sweep forgets the calls that are over and never ran, and tells whether there were any. Caller holds mu.
func (k *Class) sweep() bool {
	now := time.Now()
	if now.Sub(k.swept) < SweepPause {
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
func (k *Class) unlink(c *ticket) {
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
func (k *Class) run(c *ticket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !c.waits {
		return false
	}
	k.unlink(c)
	return true
}

// Leave says that a call which ran is over.
func (k *Class) Leave() {
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

// Running says that the call of ctx runs, and returns the class that is to be left at its end; nil is none.
func Running(ctx context.Context) *Class {
	if c, is := ctx.Value(ticketKey{}).(*ticket); is && c.class.run(c) {
		return c.class
	}
	return nil
}

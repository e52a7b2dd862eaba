// Package relay passes connections on to the members of a cluster, as they are: it reads nothing of what is said.
//
// Each connection goes to one member. One that cannot be reached is left out until a later attempt succeeds; when none is
// left, all are tried again, for a client that is refused is no better off.
//
//	Shape   client --- relay --- member, one connection each way for each client
//	Units   RetryDelay is wall-clock time
//	Errors  Run ends with the listener's
//	Source  etcd 3.7, "etcd gateway"; RFC 2782 for priority and weight
package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Target is a member to pass connections to.
type Target struct {
	Address string // host:port
	// Priority and Weight are those of a DNS record: only the lowest priority that can be reached is used, in proportion to the
	// weights; without weights the members take turns.
	Priority, Weight uint16
}

// Config is what a relay is made of.
type Config struct {
	Targets []Target
	// RetryDelay is the pause before a member that could not be reached is tried again; 0 is retryDefault.
	RetryDelay time.Duration
	Log        *slog.Logger // required
}

// retryDefault is etcd's.
const retryDefault = 5 * time.Minute

// dialTimeout is how long a member may take to accept. A client waits for it; another member would have answered.
const dialTimeout = 5 * time.Second

// Relay passes connections on. It is made by New and serves by Run.
type Relay struct {
	cfg Config

	mu      sync.Mutex // guards the fields below; not held while connecting
	members []*member
	turn    int // counts the choices made in turns
}

type member struct {
	Target
	lost bool // could not be reached, and has not been since
}

// New makes a relay to targets, at least one.
func New(cfg Config) *Relay {
	if cfg.RetryDelay <= 0 {
		cfg.RetryDelay = retryDefault
	}
	r := &Relay{cfg: cfg}
	for _, t := range cfg.Targets {
		r.members = append(r.members, &member{Target: t})
	}
	return r
}

// Run serves the connections of l until ctx ends, and closes it.
func (r *Relay) Run(ctx context.Context, l net.Listener) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	serving.Go(func() { r.revive(ctx) })
	r.cfg.Log.Info("ready to proxy client requests", "endpoints", r.addresses())
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			serving.Go(func() { r.serve(ctx, c) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			r.cfg.Log.Warn("could not accept a connection; it is tried again", "error", err)
			pause(ctx, acceptPause)
		}
	}
}

// acceptPause is the rest after a connection could not be accepted, most often because there are too many.
const acceptPause = 100 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (r *Relay) addresses() (all []string) {
	for _, t := range r.cfg.Targets {
		all = append(all, t.Address)
	}
	return all
}

// serve passes one connection on.
func (r *Relay) serve(ctx context.Context, in net.Conn) {
	defer in.Close()
	out := r.connect(ctx)
	if out == nil {
		return
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() {
		in.Close()
		out.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pass(out, in) })
	both.Go(func() { pass(in, out) })
	both.Wait()
}

// pass copies until from says no more, and then tells to so: the other direction may go on. After a failure both are of no
// use.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, is := to.(interface{ CloseWrite() error })
	if err != nil || !is || half.CloseWrite() != nil {
		to.Close()
		from.Close()
	}
}

// connect reaches a member, or nil if none can be.
func (r *Relay) connect(ctx context.Context) net.Conn {
	var tried []*member
	for m := r.pick(tried); m != nil; m = r.pick(tried) {
		c, err := r.dial(ctx, m)
		if err == nil {
			return c
		}
		if ctx.Err() != nil {
			return nil
		}
		tried = append(tried, m)
		r.cfg.Log.Warn("deactivated endpoint", "address", m.Address, "interval", r.cfg.RetryDelay, "error", err)
	}
	return nil
}

// dial connects to a member and notes whether that was possible.
func (r *Relay) dial(ctx context.Context, m *member) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", m.Address)
	r.mu.Lock()
	m.lost = err != nil
	r.mu.Unlock()
	return c, err
}

// pick chooses among the members that can be reached, or among all if none can. Those that were tried are left out.
func (r *Relay) pick(tried []*member) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	best := r.best(tried, false)
	if len(best) == 0 {
		best = r.best(tried, true)
	}
	if len(best) == 0 {
		return nil
	}
	return r.choose(best)
}

// best are the members of the lowest priority. Caller holds mu.
func (r *Relay) best(tried []*member, lostToo bool) (best []*member) {
	for _, m := range r.members {
		if (m.lost && !lostToo) || slices.Contains(tried, m) {
			continue
		}
		if len(best) > 0 && m.Priority != best[0].Priority {
			if m.Priority > best[0].Priority {
				continue
			}
			best = best[:0]
		}
		best = append(best, m)
	}
	return best
}

// weightless is how often, one time in so many, a member of weight 0 is chosen beside others that have one: RFC 2782 wants
// it to be rare.
const weightless = 100

// choose chooses among members of one priority: by weight, or in turns. Caller holds mu.
func (r *Relay) choose(among []*member) *member {
	var free, weighted []*member
	sum := 0
	for _, m := range among {
		if m.Weight == 0 {
			free = append(free, m)
			continue
		}
		weighted = append(weighted, m)
		sum += int(m.Weight)
	}
	if len(weighted) == 0 || (len(free) > 0 && rand.IntN(weightless) == 0) {
		r.turn++
		return free[(r.turn-1)%len(free)]
	}
	at := rand.IntN(sum)
	for _, m := range weighted {
		if at -= int(m.Weight); at < 0 {
			return m
		}
	}
	panic("relay: the weights do not add up to their sum")
}

// revive tries lost members again until ctx ends.
func (r *Relay) revive(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, r.cfg.RetryDelay)
		var attempts sync.WaitGroup
		for _, m := range r.lost() {
			attempts.Go(func() { r.tryAgain(ctx, m) })
		}
		attempts.Wait()
	}
}

func (r *Relay) lost() (lost []*member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.lost {
			lost = append(lost, m)
		}
	}
	return lost
}

func (r *Relay) tryAgain(ctx context.Context, m *member) {
	c, err := r.dial(ctx, m)
	switch {
	case err == nil:
		c.Close()
		r.cfg.Log.Info("activated", "address", m.Address)
	case ctx.Err() == nil:
		r.cfg.Log.Warn("failed to activate endpoint (stay inactive for another interval)", "address", m.Address,
			"interval", r.cfg.RetryDelay, "error", err)
	}
}

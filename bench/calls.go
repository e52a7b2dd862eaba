package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/status"
)

// How long a closed loop runs: first without being counted, then counted.
const (
	warmFor, warmShort       = time.Second, 50 * time.Millisecond
	measureFor, measureShort = 3 * time.Second, 150 * time.Millisecond
)

// calls is a row of callers that each do one thing again and again, and wait for each answer.
type calls struct {
	setup
	callers int
	prepare func(ctx context.Context, t *task, m *members) error // before anything is measured; nil: nothing
	caller  func(t *task, c *clients, i int, r *rand.Rand) caller
	params  map[string]any // for the record
}

// showCalls is what a row of calls prints.
var showCalls = []string{"ops_per_s", "server_us_per_op", "server_system_us_per_op", "client_us_per_op", "p50_us", "p99_us", "max_us",
	"anonymous_mb", "resident_mb", "disk_mb", "turned_away", "others_cores"}

func (l calls) run(ctx context.Context, t *task) error {
	m, err := t.start(ctx, l.setup)
	if err != nil {
		return err
	}
	defer m.kill()
	if l.prepare != nil {
		t.status("preparing")
		if err := l.prepare(ctx, t, m); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	if err := t.settle(ctx, m); err != nil {
		return err
	}
	n := t.n(l.callers, min(l.callers, 20))
	c, err := m.dial(n)
	if err != nil {
		return err
	}
	defer c.close()
	callers := make([]caller, n)
	var turnedAway atomic.Int64
	for i := range callers {
		callers[i] = patient(l.caller(t, c, i, t.random(i)), &turnedAway)
	}
	maps.Copy(t.record.Params, l.params)
	t.record.Params["callers"], t.record.Params["connections"] = n, len(c.conns)
	t.record.Params["measured_s"] = t.span(measureFor, measureShort).Seconds()
	err = t.measureCalls(ctx, m, callers)
	t.record.Values["turned_away"] = float64(turnedAway.Load())
	return err
}

// turnedAwayPause is before a call that was turned away is made again: about what a full queue needs to have room.
const turnedAwayPause = 5 * time.Millisecond

// patient makes a call again, as clients of etcd do, while the server turns it away; the time counts as that of one call.
func patient(call caller, turnedAway *atomic.Int64) caller {
	return func(ctx context.Context) error {
		n, err := untilTaken(ctx, call)
		turnedAway.Add(n)
		return err
	}
}

// turnsAway are the messages of a server that has too many calls, or did not come to this one in its own time: etcd's puts during a
// defragmentation.
var turnsAway = []string{"etcdserver: too many requests", "etcdserver: request timed out"}

// untilTaken makes a call until it is not turned away, and counts how often it was.
func untilTaken(ctx context.Context, call caller) (turnedAway int64, err error) {
	for {
		err := call(ctx)
		if !slices.Contains(turnsAway, status.Convert(err).Message()) {
			return turnedAway, err
		}
		turnedAway++
		if err := pause(ctx, turnedAwayPause); err != nil {
			return turnedAway, err
		}
	}
}

// random is the source for caller i in this round: both sides get the same.
func (t *task) random(i int) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(i), uint64(t.record.Round)))
}

// errNothing says that the time that counts was too short for this machine.
var errNothing = errors.New("nothing ended while it was measured")

// measureCalls lets callers warm up, measures for measureFor, and records what calls and servers took.
func (t *task) measureCalls(ctx context.Context, m *members, callers []caller) error {
	l := start(ctx, callers)
	cost, failed := t.window(ctx, m, l)
	took, err := l.end()
	if err == nil { // a caller's error explains what else went wrong
		err = failed
	}
	if err != nil {
		return err
	}
	if len(took) == 0 {
		return errNothing
	}
	cost.perOp(len(took), t.record.Values)
	latencies(took, t.record.Values)
	return t.held(m)
}

// window is the time that counts: what it cost, from the end of the warming up on.
func (t *task) window(ctx context.Context, m *members, l *loop) (cost spent, err error) {
	t.status("warming up")
	if err := pause(ctx, t.span(warmFor, warmShort)); err != nil {
		return spent{}, err
	}
	t.status("measuring")
	before, err := readMeter(m.pids()...)
	if err != nil {
		return spent{}, err
	}
	l.phase.Store(measuring)
	if t.profiled() {
		wait := t.profile(ctx, m)
		defer func() { err = errors.Join(err, wait()) }()
	}
	if err := pause(ctx, t.span(measureFor, measureShort)); err != nil {
		return spent{}, err
	}
	return before.since()
}

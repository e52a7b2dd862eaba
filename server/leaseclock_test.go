package server

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"holdfast/kv"
	"holdfast/lease"
)

// clockBench is a lease clock under a time that stands still until it is moved.
type clockBench struct {
	t     *testing.T
	began time.Time
	now   time.Time
	term  uint64
	clock *leaseClock
	over  map[kv.LeaseID]<-chan struct{} // of renewals that found the lease over
}

// TestLeaseClock tells in scripts when leases end. The commands, one a line:
//
//	+2s                   time passes
//	checkpoints on|off    whether what is left of leases is to be agreed on; off at first
//	start [id/ttl[/remaining]]... extend=1s    stop      leadership won, again with these leases, and lost
//	granted id ttl        revoked id        checkpointed id remaining     news of the applier
//	look                  again id pause    whole id checkpoints          the one who tends the leases
//	renew id...           remaining id...   byend
func TestLeaseClock(t *testing.T) {
	datadriven.Walk(t, "testdata/leaseclock", func(t *testing.T, path string) {
		began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		b := &clockBench{t: t, began: began, now: began, over: map[kv.LeaseID]<-chan struct{}{}}
		b.clock = newLeaseClock(func() time.Time { return b.now }, false)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			b.t = t
			var out strings.Builder
			for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
				fmt.Fprintf(&out, "%s %s: %s%s\n", b.now.Sub(b.began), line, b.do(strings.Fields(line)), b.heard())
			}
			return out.String()
		})
	})
}

// heard tells whether the expiry loop was woken, and who waited for a lease that has gone since.
func (b *clockBench) heard() (text string) {
	select {
	case <-b.clock.changed:
		text = " (wakes)"
	default:
	}
	for id, gone := range b.over {
		select {
		case <-gone:
			text += fmt.Sprintf(" (%d has gone)", int64(id))
			delete(b.over, id)
		default:
		}
	}
	return text
}

func (b *clockBench) number(text string) int64 {
	b.t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *clockBench) do(args []string) string {
	if d, ok := strings.CutPrefix(args[0], "+"); ok {
		step, err := time.ParseDuration(d)
		if err != nil {
			b.t.Fatal(err)
		}
		b.now = b.now.Add(step)
		return "ok"
	}
	switch args[0] {
	case "start":
		b.start(args[1:])
	case "stop":
		b.clock.stop()
	case "granted":
		b.clock.Granted(lease.Lease{ID: kv.LeaseID(b.number(args[1])), TTL: b.number(args[2])})
	case "revoked":
		b.clock.Revoked(kv.LeaseID(b.number(args[1])))
	case "checkpointed":
		b.clock.Checkpointed(lease.Lease{ID: kv.LeaseID(b.number(args[1])), Remaining: b.number(args[2])})
	case "checkpoints":
		b.clock.checkpoints = args[1] == "on"
	case "look":
		return b.look()
	case "again":
		pause, err := time.ParseDuration(args[2])
		if err != nil {
			b.t.Fatal(err)
		}
		b.clock.again([]kv.LeaseID{kv.LeaseID(b.number(args[1]))}, pause)
	case "whole":
		b.clock.whole(kv.LeaseID(b.number(args[1])), b.term, int(b.number(args[2])))
	case "byend":
		return fmt.Sprintf("%d", b.clock.byEnd())
	case "renew", "remaining":
		var text []string
		for _, id := range args[1:] {
			text = append(text, b.ask(args[0], kv.LeaseID(b.number(id))))
		}
		return strings.Join(text, ", ")
	default:
		b.t.Fatalf("unknown command %q", args)
	}
	return "ok"
}

func (b *clockBench) look() string {
	a := b.clock.look()
	var text []string
	if len(a.over) > 0 {
		text = append(text, fmt.Sprintf("over %d", a.over))
	}
	for _, l := range a.checkpoints {
		text = append(text, fmt.Sprintf("%d has %d", int64(l.ID), l.Remaining))
	}
	if !a.next.IsZero() {
		text = append(text, fmt.Sprintf("look again at %s", a.next.Sub(b.began)))
	}
	return strings.Join(text, ", ")
}

func (b *clockBench) ask(what string, id kv.LeaseID) string {
	if what == "remaining" {
		n, running, found := b.clock.remaining(id)
		switch {
		case !running:
			return "does not run"
		case !found:
			return "none"
		}
		return fmt.Sprint(n)
	}
	r := b.clock.renew(id)
	switch {
	case r.term == 0:
		return "does not run"
	case !r.found:
		return "none"
	case r.over != nil:
		b.over[id] = r.over
		return "over"
	case r.shortened:
		return fmt.Sprintf("%s, take back checkpoint %d", r.ttl, r.checkpoints)
	}
	return r.ttl.String()
}

func (b *clockBench) start(args []string) {
	var leases []lease.Lease
	var extend time.Duration
	for _, arg := range args {
		if d, ok := strings.CutPrefix(arg, "extend="); ok {
			var err error
			if extend, err = time.ParseDuration(d); err != nil {
				b.t.Fatal(err)
			}
			continue
		}
		parts := strings.Split(arg, "/")
		l := lease.Lease{ID: kv.LeaseID(b.number(parts[0])), TTL: b.number(parts[1])}
		if len(parts) > 2 {
			l.Remaining = b.number(parts[2])
		}
		leases = append(leases, l)
	}
	b.term++
	b.clock.start(b.term, func() []lease.Lease { return leases }, extend)
}

// TestLeaseClockMissesNoLease starts the clock while the applier grants and revokes: whatever happens between the
// question for all leases and the news of one, the clock ends up with the leases there are.
func TestLeaseClockMissesNoLease(t *testing.T) {
	c := newLeaseClock(time.Now, true)
	present := []lease.Lease{{ID: 1, TTL: 10}, {ID: 2, TTL: 10}}
	told := make(chan struct{})
	c.start(1, func() []lease.Lease {
		go func() { // the applier, which is held back until the clock has taken over what there was
			c.Granted(lease.Lease{ID: 2, TTL: 10}) // in both
			c.Granted(lease.Lease{ID: 3, TTL: 10})
			c.Revoked(1)
			close(told)
		}()
		return present
	}, 0)
	<-told
	if got := fmt.Sprintf("%d", c.byEnd()); got != "[2 3]" {
		t.Errorf("the clock has the leases %s", got)
	}
	if len(c.ends) != 2 {
		t.Errorf("%d leases are scheduled", len(c.ends))
	}
}

// TestLeaseClockBoundsALook: of leases that are over, or due for a checkpoint, no more come at once than are carried out
// together, and the rest comes at once when it is asked for.
func TestLeaseClockBoundsALook(t *testing.T) {
	now := time.Now()
	c := newLeaseClock(func() time.Time { return now }, true)
	var leases []lease.Lease
	for i := range 2*checkpointBatch + 1 {
		leases = append(leases, lease.Lease{ID: kv.LeaseID(i + 1), TTL: 30})
	}
	c.start(1, func() []lease.Lease { return leases }, 0)
	now = now.Add(20 * time.Second)
	for _, want := range []int{checkpointBatch, checkpointBatch, 1, 0} {
		a := c.look()
		if len(a.checkpoints) != want || len(a.over) != 0 {
			t.Fatalf("%d checkpoints and %d over, want %d checkpoints", len(a.checkpoints), len(a.over), want)
		}
		if want == checkpointBatch && a.next.After(now) {
			t.Fatal("the rest has to wait")
		}
	}
	now = now.Add(10 * time.Second)
	seen := map[kv.LeaseID]bool{}
	for len(seen) < len(leases) {
		a := c.look()
		if n := len(a.over); n == 0 || n > revokeBatch {
			t.Fatalf("%d leases at once", n)
		}
		for _, id := range a.over {
			if seen[id] {
				t.Fatalf("lease %s twice", id)
			}
			seen[id] = true
		}
	}
}

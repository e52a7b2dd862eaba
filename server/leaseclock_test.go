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
	clock *leaseClock
	over  map[kv.LeaseID]<-chan struct{} // of renewals that found the lease over
}

// TestLeaseClock tells in scripts when leases end. The commands, one a line:
//
//	+2s                   time passes
//	start [id/ttl[/remaining]]... extend=1s    stop      leadership won, again with these leases, and lost
//	granted id ttl        revoked id        checkpointed id remaining     news of the applier
//	renew id...           over limit        remaining id...      byend    checkpoints
func TestLeaseClock(t *testing.T) {
	datadriven.Walk(t, "testdata/leaseclock", func(t *testing.T, path string) {
		began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		b := &clockBench{t: t, began: began, now: began, over: map[kv.LeaseID]<-chan struct{}{}}
		b.clock = newLeaseClock(func() time.Time { return b.now })
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
	case "over":
		ids, next := b.clock.over(int(b.number(args[1])))
		if next.IsZero() {
			return fmt.Sprintf("%d", ids)
		}
		return fmt.Sprintf("%d, ask again at %s", ids, next.Sub(b.began))
	case "byend":
		return fmt.Sprintf("%d", b.clock.byEnd())
	case "checkpoints":
		var text []string
		for _, l := range b.clock.checkpoints() {
			text = append(text, fmt.Sprintf("%d has %d", int64(l.ID), l.Remaining))
		}
		return strings.Join(text, ", ")
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

func (b *clockBench) ask(what string, id kv.LeaseID) string {
	if what == "remaining" {
		n, found := b.clock.remaining(id)
		if !found {
			return "none"
		}
		return fmt.Sprint(n)
	}
	r := b.clock.renew(id)
	switch {
	case !r.found:
		return "none"
	case r.over != nil:
		b.over[id] = r.over
		return "over"
	case r.Remaining != 0:
		return fmt.Sprintf("%d, had %d", r.TTL, r.Remaining)
	}
	return fmt.Sprint(r.TTL)
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
	b.clock.start(func() []lease.Lease { return leases }, extend)
}

// TestLeaseClockMissesNoLease starts the clock while the applier grants and revokes: whatever happens between the
// question for all leases and the news of one, the clock ends up with the leases there are.
func TestLeaseClockMissesNoLease(t *testing.T) {
	c := newLeaseClock(time.Now)
	present := []lease.Lease{{ID: 1, TTL: 10}, {ID: 2, TTL: 10}}
	told := make(chan struct{})
	c.start(func() []lease.Lease {
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

package sim

import (
	"context"
	"errors"
	"time"

	"holdfast/kv"
	"holdfast/lease"
	"holdfast/replica"
)

// revokeRetry is after how long a lease whose revocation was not applied is proposed again.
const revokeRetry = 3 * time.Second

// leaseClock knows when leases end, on the leader.
type leaseClock map[kv.LeaseID]*lifetime

type lifetime struct {
	ttl  time.Duration
	end  time.Duration // on the member's clock
	next time.Duration // when to propose its end, if it is over
	over bool          // it was found to be over and is not renewed any more
}

// followLeadership runs the lease clock while this member leads.
func (l *life) followLeadership() {
	now := l.replica.Status().Leadership
	leads := now.Role == replica.Leader && now.Settled
	switch {
	case leads && l.led != now.Term:
		l.w.note("%s leads in term %d", l.member, now.Term)
		l.w.counts["leaders"]++
		l.led, l.leaseClock = now.Term, leaseClock{}
		for _, one := range l.leases.All() {
			l.leaseClock.add(one, l.clock()+electionTicks*tick)
		}
	case !leads && l.led != 0:
		l.led, l.leaseClock = 0, nil
	}
}

func (c leaseClock) add(one lease.Lease, now time.Duration) {
	ttl := time.Duration(one.TTL) * time.Second
	c[one.ID] = &lifetime{ttl: ttl, end: now + ttl}
}

// leaseEvents tells the clock what the log does to leases.
type leaseEvents struct{ *life }

// Granted implements apply.Leases.
func (e leaseEvents) Granted(one lease.Lease) {
	if e.led != 0 && e.leaseClock[one.ID] == nil {
		e.leaseClock.add(one, e.clock())
	}
}

// Revoked implements apply.Leases.
func (e leaseEvents) Revoked(id kv.LeaseID) { delete(e.leaseClock, id) }

// Checkpointed implements apply.Leases: lives here are too short for checkpoints.
func (e leaseEvents) Checkpointed(lease.Lease) {}

// renew gives a lease its full life again; false if there is none or it is over.
func (l *life) renew(id kv.LeaseID) bool {
	t := l.leaseClock[id]
	if l.led == 0 || t == nil || t.over || t.end <= l.clock() {
		return false
	}
	t.end = l.clock() + t.ttl
	return true
}

// proposeAsLeader proposes what must not happen if another member leads by now: it has a clock of its own.
func (l *life) proposeAsLeader(request uint64, payload []byte) {
	ctx, cancel := context.WithCancel(context.Background())
	err := l.replica.ProposeInTerm(ctx, l.led, payload)
	if err != nil && !errors.Is(err, replica.ErrTooManyRequests) {
		l.w.fail("%s cannot propose: %v", l.member, err)
	}
	l.w.after(revokeRetry, cancel)
	l.poke(&l.loop)
	l.w.note("%s proposes request %x as leader of term %d", l.member, request, l.led)
}

// endLeases proposes to revoke the leases that are over.
func (l *life) endLeases() {
	now := l.clock()
	for _, id := range sortedKeys(l.leaseClock) {
		t := l.leaseClock[id]
		if t.end > now || t.over && t.next > now {
			continue
		}
		t.over, t.next = true, now+revokeRetry
		payload, request := l.w.judge.ends(id)
		l.w.counts["expirations proposed"]++
		l.w.note("%s: lease %d is over, request %x", l.member, int64(id), request)
		l.proposeAsLeader(request, payload)
	}
}

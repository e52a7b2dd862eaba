package sim

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/replica"
)

// tendRetry is how long what the leader proposes about leases may wait to be proposed.
const tendRetry = 3 * time.Second

// longLife is from when on a life is long enough for the members to agree on what is left of it.
const longLife = 16 * time.Second

func (l *life) wallClock() time.Time { return time.Unix(0, 0).Add(l.clock()) }

// followLeadership runs the lease clock while this member leads.
func (l *life) followLeadership() {
	now := l.replica.Status().Leadership
	leads := now.Role == replica.Leader && now.Settled
	switch {
	case leads && l.led != now.Term:
		l.w.note("%s leads in term %d", l.member, now.Term)
		l.w.counts["leaders"]++
		l.led = now.Term
		l.leaseClock.Start(now.Term, l.leases.All, electionTicks*tick)
	case !leads && l.led != 0:
		l.led = 0
		l.leaseClock.Stop()
	}
}

// renew gives a lease its full life again and calls done once that holds.
func (l *life) renew(id kv.LeaseID, done func(bool)) {
	alive, agreed := l.leaseClock.Renew(id)
	if l.led == 0 || !alive || agreed == nil {
		done(l.led != 0 && alive)
		return
	}
	l.w.counts["renewals that were agreed on"]++
	request := l.agree([]lease.Lease{{ID: id}}, func(r *apply.Result, err error) {
		if err != nil || r.Err != nil {
			done(false)
			return
		}
		agreed()
		done(true)
	})
	l.w.note("%s: lease %d has its whole life again, request %x", l.member, int64(id), request)
}

// agree proposes what is left of leases.
func (l *life) agree(leases []lease.Lease, done func(*apply.Result, error)) (request uint64) {
	q := &pb.LeaseCheckpointRequest{}
	for _, one := range leases {
		q.Checkpoints = append(q.Checkpoints, &pb.LeaseCheckpoint{ID: int64(one.ID), Remaining_TTL: one.Remaining})
	}
	payload, request := l.w.judge.agrees(q)
	l.enqueue(l.led, request, payload, tendRetry, done)
	return request
}

// tendLeases proposes to revoke the leases that are over, and to agree on what is left of others. It must not happen if another
// member leads by now: that has a clock of its own.
func (l *life) tendLeases() {
	over, checkpoints := l.leaseClock.Due()
	for _, id := range over {
		payload, request := l.w.judge.ends(l, id)
		l.w.counts["expirations proposed"]++
		l.w.note("%s: lease %d is over, request %x in term %d", l.member, int64(id), request, l.led)
		l.enqueue(l.led, request, payload, tendRetry, func(*apply.Result, error) {})
	}
	if len(checkpoints) > 0 && !l.ended {
		l.w.counts["checkpoints of leases proposed"] += len(checkpoints)
		request := l.agree(checkpoints, func(*apply.Result, error) {})
		l.w.note("%s: what is left of %d leases, request %x in term %d", l.member, len(checkpoints), request, l.led)
	}
}
